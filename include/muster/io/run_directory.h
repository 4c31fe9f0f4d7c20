// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/formats/segment.h"

namespace muster::io {

/// What a job is, for "same command again": a flat list of name -> value; two jobs are the same exactly when the lists are.
/// E.g. {"model.sha256": ..., "input.sha256": ..., "key run.dtype": "bf16"}.
using Identity = std::map<std::string, std::string>;

struct RunDirectoryConfig {
  std::string path;              ///< out/encode
  std::string command;           ///< as typed, for owner.json and the manifest
  bool fresh = false;            ///< forget earlier results and start over
  bool keep_segments = false;
  bool reopen = false;           ///< a finished job whose results are still in .run/ goes on (--retry-failed)
  double commit_seconds = 1.0;
  std::uint64_t commit_bytes = std::uint64_t{64} << 20;
};

/// What was found when the directory was opened.
enum class Opened {
  kNew,       ///< nothing there (or --fresh)
  kResumed,   ///< segments and journals of an unfinished job with the same identity
  kFinished,  ///< a manifest of a finished job with the same identity
};

/// One journalled commit group: where its index frame is.
struct JournalEntry {
  std::string segment;          ///< file name in .run/
  std::uint64_t offset = 0;     ///< of the group
  std::uint64_t bytes = 0;
  std::uint64_t index_offset = 0;
  std::uint64_t records = 0;
};

/// The output directory and its .run/ folder: lock, identity, segments, journals.
///
/// Layout of .run/: lock and ranks.lock (flock; `token` where there is none), owner.json, identity.json, damaged.jsonl (groups set
/// aside), beats, stop, reopened, plan.jsonl, and per rank and start
/// segment_<start>_<rank>.seg with journal_<start>_<rank>.jsonl. A job locks in two steps: rank 0 takes `lock` exclusively, then every rank
/// takes `ranks.lock` shared; a new job also needs `ranks.lock` exclusively for a moment, so it cannot start while ranks of a dead
/// job still write.
class RunDirectory {
 public:
  /// Collective. Creates, probes writability, locks (OutputError within 2 s when another job holds it, naming host, pid and start).
  RunDirectory(const RunDirectoryConfig& config, comm::Communicator& world);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  /// Collective (rank 0's identity counts). Compares with what is there; ResumeError lists every difference, except in keys that
  /// begin with "note." (another build), which only warn. Results that rotted on disk are found here and set aside. A start that
  /// committed nothing is no obstacle to another identity.
  Opened open(const Identity& identity, comm::Communicator& world);

  const std::string& path() const;
  std::string file(const std::string& name) const;      ///< path/name
  std::string run_file(const std::string& name) const;  ///< path/.run/name

  /// This rank's appender: thread-safe; a background thread commits in groups (fsync segment, journal line, fsync).
  /// Errors of the thread surface in the next append() or flush().
  void append(std::vector<formats::Record> records);
  void flush();                          ///< returns when all appended records are durable
  std::uint64_t committed_records() const;
  double commit_seconds_spent() const;   ///< time the commit thread spent writing and syncing

  /// All valid journalled groups of all earlier starts and of this one. Torn tails are ignored; a damaged group in the middle is set
  /// aside (warning) so that its items are done again.
  std::vector<JournalEntry> journal() const;
  /// Calls `visit` once for each item of the given groups, from the last group to the first: when an item occurs twice the last
  /// journalled record wins.
  void for_each_ref(const std::vector<JournalEntry>& entries,
                    const std::function<void(const JournalEntry&, const formats::RecordRef&)>& visit) const;
  /// Reads payloads; keeps segments mapped.
  std::span<const std::byte> payload(const std::string& segment, const formats::RecordRef& ref) const;

  /// Rank 0, after a new manifest was written: a job that was reopened is finished again. Until then any start goes on with
  /// it, because results and manifest may belong to different starts.
  void close_reopened();
  /// Rank 0 at the very end: .run/ goes (unless keep_segments), the lock with it.
  void remove_run_files();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// manifest.json: written last. `files` are relative to the directory; sizes and SHA-256 are computed here.
struct ManifestInput {
  std::string job, command;
  Identity identity;
  std::vector<std::string> files;
  std::map<std::string, std::string> facts;  ///< versions, host, world size, times, counts
};
void write_manifest(const std::string& directory, const ManifestInput& input);

struct Manifest {
  std::string job, command;
  Identity identity;
  struct File {
    std::string name, sha256;
    std::uint64_t bytes = 0;
  };
  std::vector<File> files;
  std::map<std::string, std::string> facts;
};
/// nullopt when there is none; DataError when it is damaged.
std::optional<Manifest> read_manifest(const std::string& directory);
/// What job an output directory belongs to: as its manifest says, or its .run/ while it is not finished.
std::optional<Identity> known_identity(const std::string& directory);
/// One line a problem: file missing, size or digest differs. Empty when all is well.
std::vector<std::string> verify_manifest(const std::string& directory, const Manifest& manifest);

}  // namespace muster::io
