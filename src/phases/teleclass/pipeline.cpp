// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/pipeline.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "phases/infer/infer_options.h"
#include "phases/runner/plan_report.h"
#include "phases/teleclass/pipeline_report.h"
#include "phases/teleclass/similarity.h"
#include "phases/teleclass/stages.h"
#include "phases/teleclass/teleclass.h"
#include "phases/train/options.h"
#include "phases/version.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostTextBytes = std::uint64_t{1} << 32;

// What can be found wrong before hours of work: every key and every class file.
LabelSpace check(const config::Config& config, const TeleclassFiles& files) {
  gap_rule_of(config);
  for (auto& stage : teleclass_stages(config, files)) {
    resolve_auto(stage.config, device::Kind::kCpu, CpuBf16::kInHardware);  // whatever it will be
    if (stage.name == "model") read_train_options(stage.config);
    if (stage.name == "infer") read_infer_options(stage.config, "multi_label_classification");
  }
  return read_label_space(files.classes, files.hierarchy, files.keywords);
}

class TeleclassJob {
 public:
  TeleclassJob(comm::Session& session, const JobRequest& request)
      : session_(session),
        world_(session.world()),
        request_(request),
        config_(request.config),
        start_(core::monotonic_seconds()),
        start_utc_(core::utc_now()) {}

  core::ExitCode run() {
    config_.resolve("job", request_.phase.name);
    comm::collectively(world_, [&] {
      files_ = find_teleclass_files(config_);
      stages_ = teleclass_stages(config_, files_);
      if (is_root()) texts_ = class_texts(check(config_, files_), config_.string("teleclass.class_text"));
    });
    if (request_.dry_run) return dry_run();
    top_ = std::make_unique<io::RunDirectory>(
        io::RunDirectoryConfig{.path = config_.string("output.dir"), .command = request_.command}, world_);
    comm::collectively(world_, [&] {
      if (is_root()) write_settings();
    });
    for (const auto& stage : stages_) {
      const auto code = run_stage(stage);
      if (code == core::ExitCode::kPartial) code_ = code;
      if (code != core::ExitCode::kDone && code != core::ExitCode::kPartial) return code;
      if (&stage != &stages_.back() && must_stop()) return stopped_behind(stage);
    }
    comm::collectively(world_, [&] {
      if (is_root()) finish();
    });
    return code_;
  }

 private:
  bool is_root() const { return world_.is_root(); }
  std::string file(const std::string& name) const { return top_->file(name); }

  core::ExitCode dry_run() {
    for (const auto& stage : stages_) {
      if (stage.name == "documents") run_job(session_, request_for(stage, "", Again::kNo));
    }
    comm::collectively(world_, [&] {
      if (!is_root()) return;
      for (const auto& stage : stages_)
        if (stage.name == "model") fmt::print("{}", plan_text(stage.phase, stage.config, world_.size()));
    });
    return core::ExitCode::kDone;
  }

  // Class texts are an input of the stage behind them: written anew only when they changed.
  void write_settings() {
    const auto publish = [&](const std::string& name, const std::string& text) {
      const auto path = file(name);
      if (!fs::exists(path) || core::read_file(path, kMostTextBytes) != text) core::publish_text(path, text);
    };
    publish(kClassTexts, texts_);
    publish("resolved.yaml", config_.to_yaml());
  }

  enum class Again { kNo, kYes };

  JobRequest request_for(const Stage& stage, const std::string& time, Again again) {
    auto config = stage.config;
    if (!time.empty()) config.resolve("run.max_time", time);
    return {.phase = stage.phase,
            .config = std::move(config),
            .command = request_.command,
            .dry_run = request_.dry_run,
            .fresh = again == Again::kYes,
            .retry_failed = request_.retry_failed && stage.phase.create != nullptr,
            .keep_segments = request_.keep_segments,
            .on_stop = [this] { stop_ = true; }};
  }

  core::ExitCode run_stage(const Stage& stage) {
    std::int32_t again = 0;
    comm::collectively(world_, [&] {
      if (!is_root()) return;
      core::log::info("stage {} of {}: {}", &stage - stages_.data() + 1, stages_.size(), stage.name);
      again = is_to_be_redone(stage);
      // The page and the manifest of the whole vouch for the stages as they were.
      if (again != 0 || request_.retry_failed || !fs::exists(file(stage.name + "/manifest.json")))
        for (const char* old : {"manifest.json", "report.html", "submission.csv"})
          ::unlink(file(old).c_str());
    });
    const auto redone = world_.broadcast_value(again) != 0 ? Again::kYes : Again::kNo;
    core::ExitCode code = core::ExitCode::kDone;
    try {
      code = run_job(session_, request_for(stage, time_left(), redone));
    } catch (const core::ResumeError& error) {
      throw core::ResumeError(
          fmt::format("stage {}: {}\n(in a pipeline: --redo {} does this stage again, and "
                      "those behind it whose input changes)",
                      stage.name, error.what(), stage.name));
    }
    comm::collectively(world_, [&] {
      // Asked for once: the next start of the same command goes on with it.
      if (is_root() && is_asked_for(stage)) core::publish_text(redo_mark(stage), "");
    });
    return code;
  }

  bool is_asked_for(const Stage& stage) const { return config_.string("teleclass.redo") == stage.name; }
  std::string redo_mark(const Stage& stage) const { return top_->run_file("redone_" + stage.name); }

  // A result made from another upstream result is never combined with the present one.
  bool is_to_be_redone(const Stage& stage) const {
    if (request_.fresh) return true;
    const auto known = io::known_identity(file(stage.name));
    if (is_asked_for(stage) && !fs::exists(redo_mark(stage))) {
      core::log::info("{} is done again, as asked for", file(stage.name));
      return true;
    }
    if (!known) return false;
    for (const auto& [name, digest] : stage.upstream()) {
      const auto before = known->find(name);
      if (before != known->end() && before->second == digest) continue;
      core::log::info("{} was made from other results of the stages before it ({} differs): it is done again",
                      file(stage.name), name);
      return true;
    }
    return false;
  }

  std::string time_left() const {
    const double limit = config_.duration("run.max_time");
    if (!std::isfinite(limit)) return "";
    // Never 0: the stage itself says that the time is up, and saves.
    return fmt::format("{:.3f}s", std::max(limit - (core::monotonic_seconds() - start_), 0.001));
  }

  bool must_stop() {
    const bool time_is_up = core::monotonic_seconds() - start_ > config_.duration("run.max_time");
    return world_.all_reduce_value<std::int32_t>(stop_ || time_is_up, comm::Op::kMax) != 0;
  }

  core::ExitCode stopped_behind(const Stage& stage) const {
    if (is_root())
      core::log::info("stopped on request behind the stage {}; run the same command again to go on",
                      stage.name);
    return core::ExitCode::kStopped;
  }

  void finish() {
    std::vector<std::string> files{"resolved.yaml", kClassTexts};
    for (const auto& stage : stages_) files.push_back(stage.name + "/manifest.json");
    // One of an earlier, longer walk may be older than the labels of this one.
    if (std::any_of(stages_.begin(), stages_.end(),
                    [](const Stage& stage) { return stage.name == "infer"; })) {
      core::publish_text(file("submission.csv"),
                         core::read_file(file("infer/submission.csv"), kMostTextBytes));
      files.emplace_back("submission.csv");
    }
    if (!fs::exists(file("manifest.json"))) {
      io::Identity identity{{"job", request_.phase.name},
                            {"note.build", fmt::format("{} {}", kVersion, kCommit)}};
      for (const auto& [key, value] : config_.identity()) identity["key " + key] = value;
      io::write_manifest(top_->path(), {.job = request_.phase.name,
                                        .command = request_.command,
                                        .identity = identity,
                                        .files = files,
                                        .facts = facts()});
      try {
        core::publish_text(file("report.html"), report::to_html(teleclass_report({top_->path(), &config_})));
        core::log::info("wrote {}", file("report.html"));
      } catch (const std::exception& error) {
        core::log::warning("report.html is not written: {}; `muster report {}` does it", error.what(),
                           top_->path());
      }
    }
    if (files_.test_gold.empty() && config_.string("teleclass.until") == "scores")
      core::log::info("there are no gold labels of the test documents: nothing is scored");
    core::log::info("{}: {} stages in {}", request_.phase.name, stages_.size(),
                    core::human_duration(core::monotonic_seconds() - start_));
    if (files.back() == "submission.csv") core::log::info("wrote {}", file("submission.csv"));
    top_->remove_run_files();
  }

  std::map<std::string, std::string> facts() const {
    return {{"exit_code", std::to_string(static_cast<int>(code_))},
            {"world_size", std::to_string(world_.size())},
            {"host", session_.place().host},
            {"working_directory", fs::current_path().string()},
            {"started_utc", start_utc_},
            {"finished_utc", core::utc_now()},
            {"until", config_.string("teleclass.until")}};
  }

  comm::Session& session_;
  comm::Communicator& world_;
  const JobRequest& request_;
  config::Config config_;
  double start_;
  std::string start_utc_;
  TeleclassFiles files_;
  std::vector<Stage> stages_;
  std::string texts_;                      ///< of the classes; rank 0
  std::unique_ptr<io::RunDirectory> top_;  ///< for its lock
  core::ExitCode code_ = core::ExitCode::kDone;
  std::atomic<bool> stop_{false};
};

}  // namespace

core::ExitCode run_teleclass(comm::Session& session, const JobRequest& request) {
  return TeleclassJob(session, request).run();
}

std::string teleclass_plan(const config::Config& config, int ranks) {
  const auto files = find_teleclass_files(config);
  check(config, files);
  std::string text;
  for (const auto& stage : teleclass_stages(config, files)) {
    if (stage.name != "documents" && stage.name != "model") continue;
    text += fmt::format("stage {}\n{}", stage.name, plan_text(stage.phase, stage.config, ranks));
  }
  return text +
         "the other stages compare vectors (seconds), and infer works as documents on the test corpus\n";
}

PhaseInfo teleclass_phase() {
  PhaseInfo info;
  info.name = "teleclass";
  info.item = "documents";
  info.unit = "tokens";
  info.schema = teleclass_schema();
  info.pipeline = {.run = run_teleclass, .plan = teleclass_plan, .report = teleclass_report};
  return info;
}

}  // namespace muster::phases
