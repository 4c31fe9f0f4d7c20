// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace muster::comm {
namespace {

constexpr std::int32_t kNoError = -1;

[[noreturn]] void throw_error(core::ExitCode code, const std::string& message) {
  switch (code) {
    case core::ExitCode::kUsage:
      throw core::ConfigError(message);
    case core::ExitCode::kInput:
      throw core::DataError(message);
    case core::ExitCode::kResumeMismatch:
      throw core::ResumeError(message);
    case core::ExitCode::kResources:
      throw core::ResourceError(message);
    case core::ExitCode::kOutput:
      throw core::OutputError(message);
    // An internal error of another rank reaches this one as a failure of the job's communication.
    case core::ExitCode::kInternal:
      throw core::CommError(message);
    default:
      throw core::Error(code, message);
  }
}

std::vector<std::uint64_t> lengths(std::span<const std::string> texts) {
  std::vector<std::uint64_t> out(texts.size());
  std::ranges::transform(texts, out.begin(), [](const std::string& text) { return text.size(); });
  return out;
}

}  // namespace

std::string Communicator::broadcast_string(const std::string& text, int root) {
  std::string out = text;
  out.resize(broadcast_value<std::uint64_t>(text.size(), root));
  broadcast(Buffer(std::span<char>(out)), root);
  return out;
}

std::vector<std::string> Communicator::gather_strings(const std::string& mine, int root) {
  const auto counts = all_gather_value<std::uint64_t>(mine.size());
  std::string joined;
  if (rank() == root) joined.resize(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}));
  gatherv(ConstBuffer(std::span<const char>(mine)), Buffer(std::span<char>(joined)), counts, root);
  std::vector<std::string> out;
  if (rank() != root) return out;
  std::size_t offset = 0;
  for (const auto count : counts) {
    out.push_back(joined.substr(offset, count));
    offset += count;
  }
  return out;
}

std::string Communicator::scatter_strings(std::span<const std::string> all, int root) {
  std::vector<std::uint64_t> counts, ones;
  std::string joined;
  if (rank() == root) {
    core::internal_check(all.size() == static_cast<std::size_t>(size()),
                         "scatter_strings takes one string a rank");
    counts = lengths(all);
    ones.assign(all.size(), 1);
    for (const auto& text : all) joined += text;
  }
  std::uint64_t length = 0;
  scatterv(ConstBuffer(counts), ones, Buffer(std::span<std::uint64_t>(&length, 1)), root);
  std::string out(length, '\0');
  scatterv(ConstBuffer(std::span<const char>(joined)), counts, Buffer(std::span<char>(out)), root);
  return out;
}

void collectively(Communicator& communicator, const std::function<void()>& work) {
  if (communicator.size() == 1) return work();
  std::int32_t mine = kNoError;
  std::string message;
  try {
    work();
  } catch (const std::exception& error) {
    mine = static_cast<std::int32_t>(core::exit_code_of(error));
    message = error.what();
  } catch (...) {
    mine = static_cast<std::int32_t>(core::ExitCode::kInternal);
    message = "an exception of unknown type";
  }
  const auto all = communicator.all_gather_value(mine);
  const auto failed = std::ranges::count_if(all, [](std::int32_t code) { return code != kNoError; });
  if (failed == 0) return;
  const auto first = std::ranges::find_if(all, [](std::int32_t code) { return code != kNoError; });
  const int rank = static_cast<int>(first - all.begin());
  std::string text = fmt::format("[on rank {}] {}", rank, communicator.broadcast_string(message, rank));
  if (failed > 1) text += fmt::format(" (and {} more of {} ranks failed)", failed - 1, all.size());
  throw_error(static_cast<core::ExitCode>(*first), text);
}

}  // namespace muster::comm
