// SPDX-License-Identifier: Apache-2.0
#include "io/identity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "io/json_text.h"
#include "io/sealed_text.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"

namespace muster::io {
namespace {

constexpr std::string_view kNotePrefix = "note.";
constexpr std::uint64_t kMaxIdentityBytes = 16 << 20;

std::string shown(const Identity& identity, const std::string& key) {
  const auto it = identity.find(key);
  return it == identity.end() ? "absent" : fmt::format("\"{}\"", core::printable(it->second, 200));
}

}  // namespace

IdentityDifference compare_identity(const Identity& before, const Identity& now) {
  Identity keys = before;
  keys.insert(now.begin(), now.end());
  IdentityDifference out;
  for (const auto& [key, unused] : keys) {
    const auto old_value = before.find(key), new_value = now.find(key);
    if (old_value != before.end() && new_value != now.end() && old_value->second == new_value->second)
      continue;
    auto& list = key.starts_with(kNotePrefix) ? out.notes : out.refused;
    list.push_back(
        fmt::format("{}: was {}, now {}", core::printable(key, 200), shown(before, key), shown(now, key)));
  }
  return out;
}

void require_same_job(const Identity& before, const Identity& now, const std::string& what) {
  const auto difference = compare_identity(before, now);
  if (!difference.refused.empty()) {
    throw core::ResumeError(
        fmt::format("{} holds results of another job, which differs in:\n  {}\nuse the old settings to go "
                    "on with it, another output directory, or --fresh to forget it and start over",
                    what, core::join(difference.refused, "\n  ")));
  }
  for (const auto& line : difference.notes) core::log::warning("{}: resuming although {}", what, line);
}

std::string identity_to_json(const Identity& identity, std::string_view indent) {
  std::string out = "{";
  for (const auto& [key, value] : identity) {
    out += fmt::format("{}\n{}  {}: {}", out.size() > 1 ? "," : "", indent, json_text(key), json_text(value));
  }
  return out + fmt::format("\n{}}}", indent);
}

Identity identity_from_json(const formats::JsonValue& object) {
  Identity out;
  for (const auto& [key, value] : object.members()) out.emplace(key, value.as<std::string>());
  return out;
}

void write_identity(const std::string& path, const Identity& identity) {
  ::unlink((path + ".tmp").c_str());
  core::publish_text(path,
                     seal(fmt::format("{{\n\"identity\": {},\n", identity_to_json(identity, ""))) + "\n");
}

std::optional<Identity> known_identity(const std::string& directory) {
  if (auto manifest = read_manifest(directory)) return std::move(manifest->identity);
  return read_identity((std::filesystem::path(directory) / ".run" / "identity.json").string());
}

std::optional<Identity> read_identity(const std::string& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto text = core::read_file(path, kMaxIdentityBytes);
  if (!seal_holds(text)) {
    throw core::DataError(fmt::format(
        "{} is damaged, so it is unknown which job it belongs to; start over with --fresh", path));
  }
  return identity_from_json(formats::parse_json(text, path).at("identity"));
}

}  // namespace muster::io
