// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "io/identity.h"
#include "io/json_text.h"
#include "io/manifest_names.h"
#include "io/sealed_text.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/io/run_directory.h"

namespace muster::io {
namespace {

constexpr int kManifestVersion = 1;
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{1} << 30;

[[noreturn]] void fail_damaged(const std::string& path, std::string_view why) {
  throw core::DataError(fmt::format(
      "{} is damaged ({}); the results may be sound, but nothing vouches for them: restore it, or "
      "start over with --fresh",
      path, why));
}

std::string files_to_json(const std::string& directory, const std::vector<std::string>& names) {
  std::string out = "[";
  for (const auto& name : names) {
    if (!is_inner_name(name))
      throw core::InternalError(fmt::format("manifest: '{}' is not inside the directory", name));
    const auto path = (std::filesystem::path(directory) / name).string();
    out +=
        fmt::format("{}\n    {{\"name\": {}, \"bytes\": {}, \"sha256\": \"{}\"}}", out.size() > 1 ? "," : "",
                    json_text(name), core::file_size(path), core::sha256_file(path));
  }
  return out + "\n  ]";
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  const auto json = formats::parse_json(text, path);
  const auto version = json.get<std::int64_t>("muster_manifest");
  if (version != kManifestVersion) {
    throw core::DataError(
        fmt::format("{} has version {}; this build reads {}", path, version, kManifestVersion));
  }
  Manifest manifest;
  manifest.job = json.get<std::string>("job");
  manifest.command = json.get<std::string>("command");
  manifest.identity = identity_from_json(json.at("identity"));
  manifest.facts = identity_from_json(json.at("facts"));
  for (const auto& file : json.at("files").elements()) {
    auto name = file.get<std::string>("name");
    if (!is_inner_name(name)) fail_damaged(path, "a file name leaves the directory");
    manifest.files.push_back(
        {std::move(name), file.get<std::string>("sha256"), file.get<std::uint64_t>("bytes")});
  }
  return manifest;
}

std::string file_problem(const std::string& path, const Manifest::File& file) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return core::errno_text(errno);
  if (!S_ISREG(info.st_mode)) return "is not a regular file";
  if (static_cast<std::uint64_t>(info.st_size) != file.bytes) {
    return fmt::format("has {} bytes, the manifest says {}", info.st_size, file.bytes);
  }
  try {
    return core::sha256_file(path) == file.sha256 ? "" : "its SHA-256 differs from the manifest's";
  } catch (const core::DataError& error) {
    return error.what();
  }
}

}  // namespace

bool is_inner_name(const std::string& name) {
  const std::filesystem::path path(name);
  if (name.empty() || path.is_absolute() || name.find('\0') != std::string::npos) return false;
  for (const auto& part : path) {
    if (part.empty() || part == ".." || part == ".") return false;
  }
  return true;
}

void write_manifest(const std::string& directory, const ManifestInput& input) {
  const auto path = (std::filesystem::path(directory) / "manifest.json").string();
  const auto text = fmt::format(
      "{{\n  \"muster_manifest\": {},\n  \"job\": {},\n  \"command\": {},\n  \"facts\": {},\n  \"identity\": "
      "{},\n  "
      "\"files\": {},\n  ",
      kManifestVersion, json_text(input.job), json_text(input.command), identity_to_json(input.facts, "  "),
      identity_to_json(input.identity, "  "), files_to_json(directory, input.files));
  if (core::fault_point("publish.manifest")) {
    throw core::OutputError(fmt::format("cannot write {}: {}", path, core::errno_text(EIO)));
  }
  ::unlink((path + ".tmp").c_str());
  core::publish_text(path, seal(text) + "\n");
}

std::optional<Manifest> read_manifest(const std::string& directory) {
  const auto path = (std::filesystem::path(directory) / "manifest.json").string();
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto text = core::read_file(path, kMaxManifestBytes);
  if (!seal_holds(text)) fail_damaged(path, "its checksum does not hold");
  return parse_manifest(text, path);
}

std::vector<std::string> verify_manifest(const std::string& directory, const Manifest& manifest) {
  std::vector<std::string> problems;
  for (const auto& file : manifest.files) {
    const auto problem = file_problem((std::filesystem::path(directory) / file.name).string(), file);
    if (!problem.empty()) problems.push_back(fmt::format("{}: {}", file.name, problem));
  }
  return problems;
}

}  // namespace muster::io
