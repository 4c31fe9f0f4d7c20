// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/sealer.h"

#include <utility>

#include "muster/core/log.h"

namespace muster::phases {
namespace {

constexpr std::size_t kMostWaiting = 2;  // pictures are large until they are sealed

}  // namespace

Sealer::Sealer(Seal seal, io::RunDirectory& run) : seal_(std::move(seal)), directory_(run) {
  if (seal_) thread_ = std::thread([this] { this->run(); });
}

Sealer::~Sealer() {
  if (!seal_) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Sealer::append(std::vector<formats::Record> records) {
  if (!seal_) return directory_.append(std::move(records));
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || waiting_.size() < kMostWaiting; });
  if (failure_) std::rethrow_exception(failure_);
  waiting_.push_back(std::move(records));
  lock.unlock();
  changed_.notify_all();
}

void Sealer::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || (waiting_.empty() && !busy_); });
  if (failure_) std::rethrow_exception(failure_);
}

void Sealer::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    auto records = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    lock.unlock();
    changed_.notify_all();
    std::exception_ptr failure;
    try {
      for (auto& record : records) {
        if (record.kind == formats::RecordKind::kResult) seal_(record);
      }
      directory_.append(std::move(records));
    } catch (const std::exception& error) {
      failure = std::current_exception();
      core::log::debug("sealing results failed: {}", error.what());  // whoever appends next says it aloud
    }
    lock.lock();
    busy_ = false;
    failure_ = failure;
    changed_.notify_all();
    if (failure_) return;
  }
}

}  // namespace muster::phases
