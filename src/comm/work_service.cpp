// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/work_service.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <mutex>
#include <thread>

#include "muster/comm/session.h"
#include "muster/core/log.h"

namespace muster::comm {
namespace {

constexpr int kRequestTag = 1;
constexpr int kReplyTag = 2;

enum class Request : std::uint8_t { kWork, kGoodbye };
enum class Reply : std::uint64_t { kNothing, kWork, kError };

using ReplyHeader = std::array<std::uint64_t, 2>;  // kind, bytes that follow

/// Waits for a message by polling with short sleeps: a blocking MPI receive would spin on a core that
/// computes. A thread that slept is run at once when it wakes, also beside threads that never sleep.
class PolledWait {
 public:
  void again() {
    if (++polls_ < kSpins) return std::this_thread::yield();
    std::this_thread::sleep_for(polls_ < kSpins + kShortSleeps ? kShort : kLong);
  }
  void reset() { polls_ = 0; }

 private:
  static constexpr int kSpins = 8, kShortSleeps = 100;
  static constexpr std::chrono::microseconds kShort{50}, kLong{500};
  int polls_ = 0;
};

void send_reply(Communicator& communicator, int rank, Reply kind, const std::string& text) {
  const ReplyHeader header{static_cast<std::uint64_t>(kind), text.size()};
  communicator.send(ConstBuffer(std::span<const std::uint64_t>(header)), rank, kReplyTag);
  if (!text.empty()) communicator.send(ConstBuffer(std::span<const char>(text)), rank, kReplyTag);
}

}  // namespace

struct WorkService::Impl {
  Communicator communicator;
  std::function<std::optional<std::string>(int)> next;
  std::mutex next_mutex;     // rank 0: `next` is called by the service thread and by rank 0's own requests
  std::mutex request_mutex;  // other ranks: one question at a time
  std::thread service;

  std::optional<std::string> call_next(int rank) {
    const std::lock_guard lock(next_mutex);
    return next(rank);
  }

  void answer(int rank) {
    std::optional<std::string> work;
    try {
      work = call_next(rank);
    } catch (const std::exception& error) {
      send_reply(communicator, rank, Reply::kError, error.what());
      return;
    }
    send_reply(communicator, rank, work ? Reply::kWork : Reply::kNothing, work.value_or(""));
  }

  void serve() {
    PolledWait wait;
    for (int open = communicator.size() - 1; open > 0;) {
      const auto rank = communicator.probe(kRequestTag);
      if (!rank) {
        wait.again();
        continue;
      }
      wait.reset();
      std::uint8_t request = 0;
      communicator.receive(Buffer(std::span(&request, 1)), *rank, kRequestTag);
      if (static_cast<Request>(request) == Request::kGoodbye) {
        --open;
      } else {
        answer(*rank);
      }
    }
  }

  void run_service() noexcept {
    try {
      serve();
    } catch (const std::exception& error) {
      // Ranks wait for answers that will not come.
      core::log::error("the work service on rank 0 failed: {}", error.what());
      Session::abort(static_cast<int>(core::exit_code_of(error)));
    }
  }

  void tell(Request request) {
    const auto byte = static_cast<std::uint8_t>(request);
    communicator.send(ConstBuffer(std::span(&byte, 1)), 0, kRequestTag);
  }

  std::optional<std::string> ask() {
    const std::lock_guard lock(request_mutex);
    tell(Request::kWork);
    PolledWait wait;
    while (!communicator.probe(kReplyTag)) wait.again();
    ReplyHeader header{};
    communicator.receive(Buffer(std::span<std::uint64_t>(header)), 0, kReplyTag);
    const auto kind = static_cast<Reply>(header[0]);
    std::string text(header[1], '\0');
    if (!text.empty()) communicator.receive(Buffer(std::span<char>(text)), 0, kReplyTag);
    if (kind == Reply::kError) {
      throw core::CommError(fmt::format("rank 0 could not hand out work: {}", text));
    }
    if (kind == Reply::kNothing) return std::nullopt;
    return text;
  }
};

WorkService::WorkService(Communicator communicator, std::function<std::optional<std::string>(int rank)> next)
    : impl_(std::make_unique<Impl>()) {
  impl_->communicator = std::move(communicator);
  impl_->next = std::move(next);
  if (impl_->communicator.is_root() && impl_->communicator.size() > 1) {
    impl_->service = std::thread([impl = impl_.get()] { impl->run_service(); });
  }
}

WorkService::~WorkService() {
  if (impl_->service.joinable()) {
    impl_->service.join();
  } else if (!impl_->communicator.is_root()) {
    try {
      impl_->tell(Request::kGoodbye);
    } catch (const std::exception& error) {
      core::log::error("saying goodbye to the work service failed: {}", error.what());
    }
  }
}

std::optional<std::string> WorkService::request() {
  return impl_->communicator.is_root() ? impl_->call_next(0) : impl_->ask();
}

}  // namespace muster::comm
