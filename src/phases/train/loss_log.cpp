// SPDX-License-Identifier: Apache-2.0
#include "phases/train/loss_log.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/file.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{4} << 30;  // forty million steps

}  // namespace

void LossLog::cut_back(std::uint64_t steps) {
  std::string text = kHeader;
  if (steps > 0) {
    text = std::filesystem::exists(path_) ? core::read_file(path_, kMostBytes) : "";
    std::size_t end = 0;
    for (std::uint64_t line = 0; line <= steps; ++line) {  // the header, too
      end = text.find('\n', end);
      if (end == std::string::npos)
        throw core::DataError(fmt::format(
            "{} has fewer lines than the checkpoint has steps ({}); start over with --fresh", path_, steps));
      ++end;
    }
    text.resize(end);
  }
  core::publish_text(path_, text);
}

void LossLog::add(std::uint64_t step, std::uint64_t epoch, std::size_t documents,
                  const StepOutcome& outcome) {
  const auto& report = outcome.report;
  pending_ +=
      fmt::format("{},{},{},{:.17g},{:.17g},{:.17g},{:.17g},{}\n", step, epoch, documents, outcome.loss,
                  report.learning_rate, report.gradient_norm, report.loss_scale, report.skipped ? 1 : 0);
}

void LossLog::flush() {
  const core::UniqueFd fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) throw core::OutputError(fmt::format("cannot open {}: {}", path_, core::errno_text(errno)));
  core::write_all(fd.get(), pending_, path_);
  core::sync(fd.get(), path_);
  pending_.clear();
}

}  // namespace muster::phases
