// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "support/mpi_test.h"

namespace muster::training::test {

inline comm::Communicator& session_world() {
  return muster::test::session().world();
}

/// A folder of all ranks that goes away with the test. Collective.
class SharedFolder {
 public:
  SharedFolder() {
    std::string name;
    if (session_world().is_root()) {
      name = (std::filesystem::temp_directory_path() / "muster_training_XXXXXX").string();
      if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    }
    path_ = session_world().broadcast_string(name);
  }
  ~SharedFolder() {
    session_world().barrier();
    std::error_code ignored;
    if (session_world().is_root()) std::filesystem::remove_all(path_, ignored);
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  const std::string& path() const { return path_; }
  /// On rank 0, for all.
  void write(const std::string& file, const std::string& content) const {
    session_world().barrier();
    if (session_world().is_root())
      std::ofstream(file, std::ios::binary)
          .write(content.data(), static_cast<std::streamsize>(content.size()));
    session_world().barrier();
  }
  std::string read(const std::string& file) const {
    session_world().barrier();
    std::ifstream in(file, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(in), {}};
    session_world().barrier();
    return content;
  }

 private:
  std::string path_;
};

}  // namespace muster::training::test
