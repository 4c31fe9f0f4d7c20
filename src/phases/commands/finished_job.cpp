// SPDX-License-Identifier: Apache-2.0
#include "phases/commands/finished_job.h"

#include <fmt/format.h>

#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/formats/item_source.h"

namespace muster::phases {
namespace {

// Paths in resolved.yaml are as the user typed them: relative to where the job was started.
std::string from_start_folder(const std::string& path, const std::string& start_folder) {
  if (path.empty() || path.front() == '/' || start_folder.empty()) return path;
  const auto there = std::filesystem::path(start_folder) / path;
  const bool is_glob = path.find_first_of("*?[") != std::string::npos;
  return is_glob || std::filesystem::exists(there) ? there.string() : path;
}

// A word that may be a path or something else (a prompt): changed only when there is such a file. PATH:SCALE
// is one, too.
std::string perhaps_from_start_folder(const std::string& word, const std::string& start_folder) {
  if (word.empty() || word.front() == '/' || start_folder.empty()) return word;
  const auto there = (std::filesystem::path(start_folder) / word).string();
  const auto without_scale = there.substr(0, there.rfind(':'));
  std::error_code ignored;
  if (std::filesystem::exists(there, ignored)) return there;
  if (without_scale.size() > start_folder.size() + 1 && std::filesystem::exists(without_scale, ignored))
    return there;
  try {
    return word.find_first_of("*?[") == std::string::npos || formats::expand_input_paths({there}).empty()
               ? word
               : there;
  } catch (const core::DataError&) {
    return word;
  }
}

std::string yaml_list(const std::vector<std::string>& values) {
  std::vector<std::string> quoted;
  for (const auto& value : values) quoted.push_back(core::json_quote(value));
  return "[" + core::join(quoted, ", ") + "]";
}

}  // namespace

FinishedJob::FinishedJob(const Registry& registry, const std::string& directory) : directory_(directory) {
  auto manifest = io::read_manifest(directory);
  if (!manifest) {
    throw core::DataError(fmt::format(
        "{} has no manifest.json: it is no output directory, or its job is not finished (run the same "
        "command again)",
        directory));
  }
  manifest_ = std::move(*manifest);
  info_ = find_phase_of(registry, manifest_.job, directory);
  if (info_ == nullptr)
    throw core::DataError(
        fmt::format("{} was made by '{}', which this program does not have", directory, manifest_.job));
  const std::string yaml = directory + "/resolved.yaml";
  config::Sources sources;
  sources.yaml_path = yaml;
  config_ = config::load_config(info_->schema, sources);
  const std::string start = manifest_.facts["working_directory"];
  if (info_->schema.find("input.path") != nullptr) {
    auto inputs = config_.strings("input.path");
    for (auto& input : inputs) input = from_start_folder(input, start);
    sources.sets.emplace_back("input.path", yaml_list(inputs));
  }
  for (const char* words : {"input.prompts", "sample.adapters"}) {
    if (info_->schema.find(words) == nullptr) continue;
    auto found = config_.strings(words);
    for (auto& word : found) word = perhaps_from_start_folder(word, start);
    sources.sets.emplace_back(words, yaml_list(found));
  }
  for (const char* file : {"model.path", "report.labels", "taxonomy.classes", "taxonomy.hierarchy",
                           "input.latents", "sample.clip_model"}) {
    if (info_->schema.find(file) != nullptr)
      sources.sets.emplace_back(file, core::json_quote(from_start_folder(config_.string(file), start)));
  }
  config_ = config::load_config(info_->schema, sources);
}

ItemPhase& FinishedJob::phase() {
  if (!info_->create) {
    throw core::DataError(fmt::format("{} was made by '{}', which has no items to compute one by one",
                                      directory_, info_->name));
  }
  if (!phase_) {
    const auto device = device::choose_device(
        {.device = config_.string("run.device"), .gpu_ids = config_.integers("run.gpu_ids")}, 0);
    phase_ = info_->create({config_, device});
    for (const auto& [name, value] : phase_->identity()) {
      const auto known = manifest_.identity.find(name);
      if (known != manifest_.identity.end() && known->second != value) {
        throw core::DataError(fmt::format("{} was made with another model: {} was {} and is {} now ({})",
                                          directory_, name, known->second, value,
                                          config_.string("model.path")));
      }
    }
    phase_->load();
    worker_ = phase_->make_worker();
  }
  return *phase_;
}

formats::Record FinishedJob::run(std::string_view text) {
  ItemPhase& phase = this->phase();
  PreparedItem prepared;
  phase.prepare(text, prepared);
  const ItemView view{
      .row = 0, .length = prepared.length, .truncated = prepared.truncated, .payload = prepared.payload};
  auto records = worker_->run({&view, 1});
  core::internal_check(records.size() == 1, "a worker must return one record an item");
  return std::move(records.front());
}

}  // namespace muster::phases
