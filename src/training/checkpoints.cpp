// SPDX-License-Identifier: Apache-2.0
#include "muster/training/checkpoints.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "muster/core/digest.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"

namespace muster::training {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporary = ".tmp";      // being written or being removed
constexpr std::string_view kReplaced = ".replaced";  // stands until another of its step has its name
constexpr const char* kComplete = "complete.json";
constexpr const char* kPayload = "payload";
constexpr const char* kBest = "best";
constexpr std::uint64_t kMaxTextBytes = std::uint64_t{64} << 20;

std::string name_of(std::uint64_t step) {
  return fmt::format("{}{:09}", kPrefix, step);
}

/// The number in "step_000000123" or "step_000000123.replaced".
std::optional<std::uint64_t> step_of(std::string_view name) {
  if (name.ends_with(kReplaced)) name.remove_suffix(kReplaced.size());
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const bool is_number = !name.empty() && name.size() <= 18 &&
                         std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
  return is_number ? std::optional(std::stoull(std::string(name))) : std::nullopt;
}

struct FileEntry {
  std::string name;
  std::uint64_t bytes = 0;
  std::string sha256;
};

std::string file_line(const std::string& folder, const std::string& name) {
  const std::string path = (fs::path(folder) / name).string();
  return fmt::format(R"({{"name":{},"bytes":{},"sha256":"{}"}})", core::json_quote(name),
                     core::file_size(path), core::sha256_file(path));
}

std::vector<FileEntry> read_complete(const std::string& folder, std::uint64_t step) {
  const std::string path = (fs::path(folder) / kComplete).string();
  const auto json = formats::parse_json(core::read_file(path, kMaxTextBytes), path);
  if (json.get<std::uint64_t>("step") != step) json.at("step").fail("is not the folder's");
  std::vector<FileEntry> files;
  for (const auto& file : json.at("files").elements()) {
    files.push_back(
        {file.get<std::string>("name"), file.get<std::uint64_t>("bytes"), file.get<std::string>("sha256")});
    const std::string& name = files.back().name;
    if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
      file.at("name").fail("is not a plain file name");
  }
  if (std::ranges::find(files, kPayload, &FileEntry::name) == files.end())
    json.at("files").fail("has no payload");
  return files;
}

void check_file(const std::string& folder, const FileEntry& file) {
  const std::string path = (fs::path(folder) / file.name).string();
  if (const auto bytes = core::file_size(path); bytes != file.bytes)
    throw core::DataError(fmt::format("{} has {} bytes instead of {}", path, bytes, file.bytes));
  if (core::sha256_file(path) != file.sha256)
    throw core::DataError(fmt::format("{} does not match its SHA-256", path));
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory)
    throw core::DataError(fmt::format("cannot list {}: {}", folder, core::errno_text(error.value())));
  return names;
}

void rename(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw core::OutputError(
        fmt::format("cannot rename {} to {}: {}", from, to, core::errno_text(error.value())));
}

/// Under the name of a fragment first, so that what is cut off is never taken for a checkpoint.
void remove_folder(const std::string& path) {
  std::string doomed = path;
  std::error_code error;
  if (!path.ends_with(kTemporary)) {
    doomed += kTemporary;
    fs::remove_all(doomed, error);
    fs::rename(path, doomed, error);
  }
  if (!error) fs::remove_all(doomed, error);
  if (error) {
    core::log::warning("cannot remove the old checkpoint {}: {}; remove it by hand when space is short", path,
                       core::errno_text(error.value()));
  }
}

}  // namespace

struct Checkpoints::Entry {
  std::string name;
  std::uint64_t step = 0;
  bool is_replaced = false;
};

Checkpoints::Checkpoints(Config config, comm::Communicator world)
    : config_(std::move(config)), world_(std::move(world)) {
  core::internal_check(config_.keep >= 1, "at least one checkpoint is kept");
}

std::string Checkpoints::path(const std::string& name) const {
  return (fs::path(config_.folder) / name).string();
}

/// Newest first, without fragments; of one step the one that was replaced comes last.
std::vector<Checkpoints::Entry> Checkpoints::entries() const {
  std::vector<Entry> found;
  for (const std::string& name : names_in(config_.folder)) {
    if (const auto step = step_of(name)) found.push_back({name, *step, name.ends_with(kReplaced)});
  }
  std::ranges::sort(found, [](const Entry& a, const Entry& b) {
    return a.step != b.step ? a.step > b.step : a.is_replaced < b.is_replaced;
  });
  return found;
}

/// "" when none was marked, or the mark cannot be read.
std::string Checkpoints::best_name() const {
  try {
    const std::string name(core::trim(core::read_file(path(kBest), 100)));
    return step_of(name) ? name : "";
  } catch (const core::DataError&) {
    return "";
  }
}

void Checkpoints::save(const Request& request) {
  const std::string temporary = path(name_of(request.step)) + std::string(kTemporary);
  comm::collectively(world_, [&] {
    if (!world_.is_root()) return;
    core::make_directories(config_.folder);
    remove_folder(temporary);
    core::make_directories(temporary);
  });
  try {
    write(request, temporary);
  } catch (...) {
    if (world_.is_root()) remove_folder(temporary);  // the disk may be full
    throw;
  }
}

void Checkpoints::write(const Request& request, const std::string& temporary) {
  const auto names = request.write(temporary);
  std::string lines;
  comm::collectively(world_, [&] {
    for (const std::string& name : names) {
      core::internal_check(name != kPayload && name != kComplete, "these names are the checkpoint's own");
      lines += (lines.empty() ? "" : ",\n") + file_line(temporary, name);
    }
  });
  const auto all = world_.gather_strings(lines);
  comm::collectively(world_, [&] {
    if (!world_.is_root()) return;
    complete(request, temporary, all);
    publish(temporary, request);
    prune(request.step);
  });
}

/// Last of all files: it says that the others are there.
void Checkpoints::complete(const Request& request, const std::string& folder,
                           std::span<const std::string> files_of_ranks) {
  core::publish_text((fs::path(folder) / kPayload).string(), request.payload);
  std::vector<std::string> lines{file_line(folder, kPayload)};
  std::ranges::copy_if(files_of_ranks, std::back_inserter(lines),
                       [](const auto& line) { return !line.empty(); });
  core::fault_point("checkpoint.before_complete");
  core::publish_text(
      (fs::path(folder) / kComplete).string(),
      fmt::format("{{\"step\":{},\n\"files\":[\n{}]}}\n", request.step, fmt::join(lines, ",\n")));
}

void Checkpoints::publish(const std::string& temporary, const Request& request) {
  const std::string place = path(name_of(request.step)), replaced = place + std::string(kReplaced);
  core::fault_point("checkpoint.before_rename");
  if (fs::exists(place)) {
    if (fs::exists(replaced)) remove_folder(replaced);
    rename(place, replaced);
  }
  rename(temporary, place);
  core::sync_directory(config_.folder);
  core::fault_point("checkpoint.after_rename");
  if (fs::exists(replaced)) remove_folder(replaced);
  if (request.best == Best::kYes) core::publish_text(path(kBest), name_of(request.step) + "\n");
}

/// Those beyond the newest few, and those of later steps, which were damaged or are of a course given up.
void Checkpoints::prune(std::uint64_t newest_step) {
  const std::string best = best_name();
  int kept = 0;
  for (const Entry& entry : entries()) {
    const bool is_new = entry.step <= newest_step && !entry.is_replaced && kept < config_.keep;
    if (is_new) ++kept;
    if (!is_new && entry.name != best) remove_folder(path(entry.name));
  }
  // What was cut off in an earlier run.
  for (const std::string& name : names_in(config_.folder)) {
    if (name.starts_with(kPrefix) && name.ends_with(kTemporary)) remove_folder(path(name));
  }
}

/// Every rank checks its share of the files; nothing, and a warning, when one of them is damaged.
std::optional<Checkpoint> Checkpoints::open(const std::string& name) {
  Checkpoint out{*step_of(name), path(name), {}};
  try {
    comm::collectively(world_, [&] {
      const auto files = read_complete(out.folder, out.step);
      const auto ranks = static_cast<std::size_t>(world_.size());
      for (auto i = static_cast<std::size_t>(world_.rank()); i < files.size(); i += ranks)
        check_file(out.folder, files[i]);
      out.payload = core::read_file((fs::path(out.folder) / kPayload).string(), kMaxTextBytes);
    });
  } catch (const core::DataError& error) {
    if (world_.is_root()) core::log::warning("the checkpoint {} is damaged: {}", out.folder, error.what());
    return std::nullopt;
  }
  return out;
}

std::optional<Checkpoint> Checkpoints::newest() {
  std::string names;
  comm::collectively(world_, [&] {
    if (!world_.is_root()) return;
    for (const Entry& entry : entries()) names += entry.name + "\n";
  });
  for (const std::string& name : core::split(world_.broadcast_string(names), '\n')) {
    if (name.empty()) continue;
    if (auto found = open(name)) return found;
  }
  return std::nullopt;
}

std::optional<Checkpoint> Checkpoints::best() {
  const std::string name = world_.broadcast_string(world_.is_root() ? best_name() : "");
  return name.empty() ? std::nullopt : open(name);
}

}  // namespace muster::training
