// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>

#include "muster/io/run_directory.h"
#include "support.h"

namespace muster::io::test {

inline const Identity kIdentity = {{"model.sha256", "abc"}, {"run.dtype", "fp32"}};

/// A one-rank job on an opened directory.
struct Job {
  comm::Communicator world = one_rank();
  std::unique_ptr<RunDirectory> directory;
  Opened opened = Opened::kNew;

  explicit Job(const std::string& path, const Identity& identity = kIdentity)
      : Job(RunDirectoryConfig{.path = path}, identity) {}
  explicit Job(const RunDirectoryConfig& config, const Identity& identity = kIdentity) {
    directory = std::make_unique<RunDirectory>(config, world);
    opened = directory->open(identity, world);
  }
  RunDirectory* operator->() const { return directory.get(); }
};

}  // namespace muster::io::test
