// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "muster/formats/segment.h"
#include "muster/io/run_directory.h"

namespace muster::phases {

/// Stands between the workers and the run directory: a thread seals records (encodes a picture and writes its
/// file, say) while the workers go on, and only then hands them over to be made durable. Without a seal it
/// hands them over at once.
class Sealer {
 public:
  using Seal = std::function<void(formats::Record&)>;
  Sealer(Seal seal, io::RunDirectory& run);
  /// What is not sealed by now is dropped: nobody was told that it is done.
  ~Sealer();
  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  /// Waits while the records of two calls wait already. Throws what the thread met.
  void append(std::vector<formats::Record> records);
  /// Returns when all records are handed over.
  void flush();

 private:
  void run();

  const Seal seal_;
  io::RunDirectory& directory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<formats::Record>> waiting_;
  bool busy_ = false, stopping_ = false;
  std::exception_ptr failure_;
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace muster::phases
