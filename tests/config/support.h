// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "muster/config/schema.h"
#include "muster/core/error.h"

namespace muster::config {

/// A file that goes with the test.
class ScratchFile {
 public:
  explicit ScratchFile(std::string_view content, const std::string& suffix = ".yaml") {
    static int count = 0;
    path_ = ::testing::TempDir() + "muster_config_" + std::to_string(::getpid()) + '_' +
            std::to_string(count++) + suffix;
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~ScratchFile() { std::filesystem::remove(path_); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The common keys without required ones, so that a table row needs to say only what it is about.
inline Schema relaxed_schema() {
  Schema schema = common_schema();
  for (const char* name : {"model.path", "input.path", "output.dir"}) schema.make_optional(name);
  return schema;
}

/// The message of the ConfigError with the file's path as FILE; "" when there is none.
inline std::string problems_of(const Schema& schema, std::string_view yaml, Sources sources = {}) {
  const ScratchFile file(yaml);
  sources.yaml_path = file.path();
  try {
    load_config(schema, sources);
    return "";
  } catch (const core::ConfigError& error) {
    std::string message = error.what();
    for (auto at = message.find(file.path()); at != std::string::npos; at = message.find(file.path())) {
      message.replace(at, file.path().size(), "FILE");
    }
    return message;
  }
}

}  // namespace muster::config
