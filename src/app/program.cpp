// SPDX-License-Identifier: Apache-2.0
#include "app/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "app/arguments.h"
#include "muster/comm/launch.h"
#include "muster/comm/session.h"
#include "muster/comm/watchdog.h"
#include "muster/core/fault.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/phases/commands.h"
#include "muster/phases/item_job.h"

namespace muster::app {
namespace {

namespace log = core::log;

int report(const std::exception& error) {
  log::error("{}", error.what());
  return static_cast<int>(core::exit_code_of(error));
}

FindPhase phase_finder(const phases::Registry& registry) {
  return [&registry](const std::string& name, const std::string& variant) -> const config::Schema* {
    const auto* phase = phases::find_phase(registry, name, variant);
    return phase == nullptr ? nullptr : &phase->schema;
  };
}

std::string as_typed(int argc, char** argv) {
  const std::vector<std::string> words(argv, argv + argc);
  return core::join(words, " ");
}

int ranks_to_start(const config::Config& config) {
  if (!config.is_auto("run.ranks")) return static_cast<int>(config.integer("run.ranks"));
  if (config.string("run.device") == "cpu") return 1;
  const int gpus = device::gpu_count();
  const auto chosen = static_cast<int>(config.integers("run.gpu_ids").size());
  return std::max(1, chosen > 0 ? std::min(chosen, gpus) : gpus);
}

phases::JobRequest make_request(const Arguments& arguments, const phases::PhaseInfo& phase,
                                config::Config config, std::string command) {
  return {.phase = phase,
          .config = std::move(config),
          .command = std::move(command),
          .dry_run = arguments.dry_run,
          .fresh = arguments.fresh,
          .retry_failed = arguments.retry_failed,
          .keep_segments = arguments.keep_segments};
}

/// One rank of a job, or the launcher of one.
class Job {
 public:
  Job(int argc, char** argv, const phases::Registry& registry)
      : argc_(argc), argv_(argv), registry_(registry) {}

  int run() {
    if (comm::detect_launch() == comm::Launch::kUnderMpi) return run_rank();
    parse();  // a wrong line costs no start of MPI
    const int ranks = ranks_to_start(config_);
    if (ranks > 1) return comm::launch_self(ranks, {argv_ + 1, argv_ + argc_});
    return run_rank();
  }

 private:
  void parse() {
    arguments_ = parse_arguments({argv_ + 1, argv_ + argc_}, phase_finder(registry_));
    log::set_console_level(log::level_from_name(arguments_.log_level));
    phase_ = phases::find_phase(registry_, arguments_.job, arguments_.variant);
    core::internal_check(phase_ != nullptr, "arguments name a phase that is not registered");
    config_ = config::load_config(phase_->schema, arguments_.sources);
  }

  int run_rank() {
    comm::block_signals();
    comm::Session session(&argc_, &argv_);
    core::set_fault_rank(session.place().rank);
    log::set_label(comm::rank_label(session.place()));
    const bool is_root = session.place().rank == 0;
    try {
      comm::collectively(session.world(), [&] { parse(); });
      if (!is_root)
        log::set_console_level(std::max(log::Level::kWarning, log::level_from_name(arguments_.log_level)));
      return static_cast<int>(
          phases::run_job(session, make_request(arguments_, *phase_, config_, as_typed(argc_, argv_))));
    } catch (const std::exception& error) {
      // What leaves a job as an exception was agreed on by all ranks: one of them says it.
      return is_root ? report(error) : static_cast<int>(core::exit_code_of(error));
    }
  }

  int argc_;
  char** argv_;
  const phases::Registry& registry_;
  Arguments arguments_;
  const phases::PhaseInfo* phase_ = nullptr;
  config::Config config_;
};

/// Commands that need no MPI; nullopt for a job.
std::optional<core::ExitCode> run_tool(const Arguments& arguments, const phases::Registry& registry) {
  log::set_console_level(log::level_from_name(arguments.log_level));
  if (arguments.command == "verify") {
    return phases::verify_command(registry, {.directory = arguments.positional.at(0),
                                             .redo = static_cast<std::uint64_t>(arguments.redo),
                                             .seed = std::random_device{}()});
  }
  if (arguments.command == "search") {
    return phases::search_command(registry, {.directory = arguments.positional.at(0),
                                             .query = arguments.positional.at(1),
                                             .top = static_cast<std::uint64_t>(arguments.top)});
  }
  if (arguments.command == "report") {
    return phases::report_command(registry,
                                  {.directories = arguments.positional, .output = arguments.output});
  }
  if (arguments.command == "info") {
    return phases::info_command(arguments.positional,
                                arguments.doctor ? phases::Doctor::kYes : phases::Doctor::kNo);
  }
  if (arguments.command == "plan") {
    const auto* phase = phases::find_phase(registry, arguments.job, arguments.variant);
    core::internal_check(phase != nullptr, "arguments name a phase that is not registered");
    auto schema = phase->schema;
    schema.make_optional("output.dir");  // a plan writes nothing
    const auto config = config::load_config(schema, arguments.sources);
    return phases::plan_command(
        *phase, config, config.is_auto("run.ranks") ? 1 : static_cast<int>(config.integer("run.ranks")));
  }
  return std::nullopt;
}

}  // namespace

int run_program(int argc, char** argv, const phases::Registry& registry) {
  try {
    std::optional<Arguments> arguments;
    try {
      arguments = parse_arguments({argv + 1, argv + argc}, phase_finder(registry));
    } catch (const core::Error&) {
      // Under mpirun the ranks agree on the error first, so that it is said once.
      if (comm::detect_launch() == comm::Launch::kAlone) throw;
    }
    if (arguments && arguments->show != Show::kNothing) {
      fmt::print("{}", arguments->show == Show::kHelp ? arguments->help : phases::versions_text());
      return 0;
    }
    if (arguments) {
      if (const auto code = run_tool(*arguments, registry)) return static_cast<int>(*code);
    }
    return Job(argc, argv, registry).run();
  } catch (const std::exception& error) {
    return report(error);
  }
}

}  // namespace muster::app
