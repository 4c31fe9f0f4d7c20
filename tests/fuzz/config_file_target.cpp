// SPDX-License-Identifier: Apache-2.0
#include "fuzz/config_checks.h"
#include "fuzz/support.h"
#include "fuzz/targets.h"

namespace muster::fuzz {

/// Any bytes as a config file.
void config_file(std::string_view bytes) {
  const Folder folder;
  const std::string path = folder.write("job.yaml", bytes);
  const auto job = unless<core::ConfigError>([&] { return config::read_job(path); });
  const auto config = load({.yaml_path = path, .sets = {}, .flags = {}});
  if (!config) return;
  expect(job == config->string("job"), "the job is the same whether it is read alone or with the rest");
  check_config(*config);
}

}  // namespace muster::fuzz
