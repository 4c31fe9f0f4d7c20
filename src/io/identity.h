// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"
#include "muster/io/run_directory.h"

namespace muster::io {

/// How two identities differ, one line a key: "run.dtype: was \"bf16\", now \"fp32\"".
struct IdentityDifference {
  std::vector<std::string> refused;  ///< keys that make it another job
  std::vector<std::string> notes;    ///< keys that begin with "note.": another build, say
};
IdentityDifference compare_identity(const Identity& before, const Identity& now);

/// Warns about notes; ResumeError listing everything refused. `what` names what was found: "out/encode".
void require_same_job(const Identity& before, const Identity& now, const std::string& what);

/// A JSON object of strings, and back; DataError.
std::string identity_to_json(const Identity& identity, std::string_view indent);
Identity identity_from_json(const formats::JsonValue& object);

void write_identity(const std::string& path, const Identity& identity);
/// nullopt when there is no such file; DataError when it is damaged.
std::optional<Identity> read_identity(const std::string& path);

}  // namespace muster::io
