// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "muster/comm/session.h"
#include "muster/config/schema.h"
#include "muster/device/device.h"
#include "muster/formats/segment.h"
#include "muster/io/hdf5_results.h"
#include "muster/io/run_directory.h"
#include "muster/phases/step_phase.h"
#include "muster/plan/plan.h"
#include "muster/report/report.h"

namespace muster::phases {

/// What a phase makes of one item before it is dealt: this travels to the rank that works on it.
struct PreparedItem {
  std::uint32_t length = 0;        ///< its size in the phase's unit (tokens); decides its cost
  bool truncated = false;          ///< something of the item did not fit
  std::vector<std::byte> payload;  ///< what the worker needs
};

/// One item of a micro-batch, in place in the batch's memory.
struct ItemView {
  std::uint64_t row = 0;
  std::uint32_t length = 0;
  bool truncated = false;
  std::span<const std::byte> payload;
};

/// Where a rank stands in a job.
struct RankContext {
  std::string directory;  ///< the output directory
  io::Identity identity;  ///< of the job, on every rank
  int rank = 0;
  /// The ranks that work on an item together (ItemPhase::ranks_an_item), the one that leads first.
  std::shared_ptr<comm::Communicator> group;
};

/// Works on micro-batches, one thread at a time. Made once a worker thread.
class ItemWorker {
 public:
  virtual ~ItemWorker() = default;
  /// One record an item, in any order. A record of an item must depend on that item alone.
  /// core::ResourceError or std::bad_alloc: the runner halves the batch and calls again. core::DataError or a
  /// foreign exception: the runner finds the guilty item by halving and lists it as failed. Other errors of
  /// ours end the job.
  virtual std::vector<formats::Record> run(std::span<const ItemView> batch) = 0;
  /// With on_truncate: fail, why an item that is truncated is listed as failed.
  virtual std::string too_long(const ItemView& item) const;
  /// Drops caches after an out-of-memory error.
  virtual void release_memory() {}
};

/// The record of an item without a result, with the reason that failures.jsonl gives.
formats::Record failure_record(std::uint64_t row, std::string_view reason);

/// What a phase gets to publish from: the records of all ranks and starts.
struct PublishContext {
  io::RunDirectory& run;
  comm::Communicator& world;
  std::uint64_t rows = 0;                  ///< items with a result: the rows of every table
  std::vector<std::uint64_t> failed_rows;  ///< sorted item rows without a result; not in any table
  std::vector<io::JournalEntry> journal;
  std::function<void(const std::string&)> step;       ///< tells the watchdog that publishing goes on
  std::function<std::string()> next_id;               ///< rank 0: ids of the published rows, in order
  std::map<std::string, io::H5Attribute> attributes;  ///< those that every result file carries
  std::map<std::string, std::string>& facts;          ///< counts for summary and manifest
};

/// Memory and work as config files alone tell them.
struct Footprint {
  double weight_bytes = 0;      ///< one prepared model a rank
  double worker_bytes = 0;      ///< activations of a worker thread at the batch budget
  double flops_per_second = 1;  ///< a worker's expected rate; from a table by device and dtype
  plan::CostModel flops;        ///< floating-point operations of an item by its length
  std::vector<std::pair<std::string, std::string>> details;  ///< more lines for a plan: name and value
};

/// A phase that works item by item: items, cost, run, publish. Constructed on every rank, before MPI for
/// `plan`.
class ItemPhase {
 public:
  virtual ~ItemPhase() = default;
  /// What the results depend on besides keys and input: digests of model files. Rank 0.
  virtual io::Identity identity() const { return {}; }
  /// Text to payload. Called on every rank; safe from several threads.
  virtual void prepare(std::string_view text, PreparedItem& out) const = 0;
  virtual plan::CutConfig cut() const = 0;
  virtual Footprint footprint() const { return {}; }
  /// Bytes of result a row, to check the disk before any work.
  virtual std::uint64_t result_bytes() const = 0;
  /// So many neighbouring ranks work on an item together. The first of them leads: it alone gets items.
  virtual int ranks_an_item(int /*ranks*/) const { return 1; }
  /// Worker threads that a rank may have.
  virtual int most_workers() const { return std::numeric_limits<int>::max(); }
  /// Every rank, once, after the directory is locked and before load(). Not called where no job runs.
  virtual void join(const RankContext& /*context*/) {}
  /// Loads what workers share. Every rank, once, after the directory is locked and checked.
  virtual void load() {}
  /// In the place of workers on a rank that does not lead: does what the leader asks for until that calls
  /// dismiss(). `alive` tells the watchdog that it goes on.
  virtual void serve(const std::function<void()>& /*alive*/) {}
  /// On a rank that leads, behind its last item.
  virtual void dismiss() {}
  /// Called for each result before it is made durable, one at a time, on a thread of its own while the
  /// workers go on: writes files beside the record, and makes the record what publish() finds. Empty: nothing
  /// to do.
  virtual std::function<void(formats::Record&)> seal() { return {}; }
  /// Whether the files that a durable result stands for are as they were; an item whose are not is done
  /// again. Empty: there are none.
  using IntactCheck = std::function<bool(std::uint64_t row, std::span<const std::byte> payload)>;
  virtual IntactCheck is_intact(const std::string& /*directory*/) const { return {}; }
  virtual std::unique_ptr<ItemWorker> make_worker() = 0;
  /// Collective: writes the final files; returns their names relative to the output directory, on every rank.
  virtual std::vector<std::string> publish(PublishContext& context) = 0;
  /// For `verify --redo`: the published result at `position` (the position-th published row), as a record's
  /// payload.
  virtual std::vector<std::byte> published(const std::string& directory, std::uint64_t position) const = 0;
  /// A record's payload as it is published (an encode row stored as fp16, say), to compare with published().
  virtual std::vector<std::byte> as_published(std::span<const std::byte> payload) const {
    return {payload.begin(), payload.end()};
  }
};

/// Where and with what a phase object works.
struct PhaseContext {
  const config::Config& config;  ///< every `auto` resolved
  device::Device device;
};

/// A finished output directory, to add to its report.html from: no model is loaded for that.
struct ReportSource {
  std::string directory;
  const config::Config* config = nullptr;  ///< of the job; null when it cannot be read any more
};

struct JobRequest;

/// Jobs one after the other, each in a folder of its own below the output directory.
struct Pipeline {
  /// Collective; as run_job.
  std::function<core::ExitCode(comm::Session&, const JobRequest&)> run;
  /// What `muster plan` prints.
  std::function<std::string(const config::Config&, int ranks)> plan;
  /// report.html, finished or not.
  std::function<report::Report(const ReportSource&)> report;
  explicit operator bool() const { return run != nullptr; }
};

/// A phase as commands see it. One line in registry.cpp makes it known.
struct PhaseInfo {
  std::string name;  ///< the command: "encode"
  /// Phases of one name stand one behind another in the registry: the value that asks for this one, of the
  /// key that chooses between their schemas.
  std::string variant;
  std::string item;  ///< plural, for figures: "documents"
  std::string unit;  ///< of an item's length: "tokens"
  config::Schema schema;
  /// One of the three: what kind of phase it is.
  std::function<std::unique_ptr<ItemPhase>(const PhaseContext&)> create;
  std::function<std::unique_ptr<StepPhase>(const PhaseContext&)> create_step;
  Pipeline pipeline;
  /// Values of keys that are `auto` and depend on the number of ranks: the first start decides, later ones
  /// keep them. May be empty.
  std::function<std::map<std::string, std::string>(const config::Config&, int ranks)> resolve_once;
  /// Sections of report.html beside those that every phase has; they come first. May be empty.
  std::function<std::vector<report::Section>(const ReportSource&)> report;
};

using Registry = std::vector<PhaseInfo>;
/// The phases of this program.
Registry all_phases();
/// Null when there is none of that name; the first of the name when it has no such variant.
const PhaseInfo* find_phase(const Registry& registry, const std::string& name,
                            const std::string& variant = "");
/// The phase `name` of the job in a directory whose resolved.yaml tells the variant.
const PhaseInfo* find_phase_of(const Registry& registry, const std::string& name,
                               const std::string& directory);

}  // namespace muster::phases
