// SPDX-License-Identifier: Apache-2.0
#include "muster/io/run_directory.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <mutex>
#include <set>

#include "io/commit_thread.h"
#include "io/earlier_results.h"
#include "io/identity.h"
#include "io/journal.h"
#include "io/run_lock.h"
#include "io/segment_cache.h"
#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"

namespace muster::io {
namespace {

namespace fs = std::filesystem;

/// Rows are dense numbers from 0; a larger one is a damaged index frame, not a reason to allocate.
constexpr std::uint64_t kMaxItem = std::uint64_t{1} << 40;

/// At least a frame's header and padding. The index frame that ends every group is longer, so these bytes
/// exist behind each record.
constexpr std::uint64_t kFrameOverhead = 32;

/// Journal lines of groups that a later start found damaged; every rank skips them.
constexpr const char* kDamagedFile = "damaged.jsonl";

/// There from the reopening of a finished job until its next manifest.
constexpr const char* kReopenedFile = "reopened";

void require_real_folder(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    throw core::OutputError(fmt::format("{} is not a directory of its own (a link?); remove it", path));
  }
}

using GroupKey = std::pair<std::string, std::uint64_t>;

std::set<GroupKey> read_damaged_groups(const std::string& run_folder) {
  std::set<GroupKey> out;
  const auto path = (fs::path(run_folder) / kDamagedFile).string();
  if (!fs::exists(path)) return out;
  const auto text = core::read_file(path, std::uint64_t{1} << 30);
  for (const auto& line : core::split(text, '\n')) {
    if (const auto entry = parse_journal_line(line)) out.emplace(entry->segment, entry->offset);
  }
  return out;
}

std::string to_lines(const std::vector<JournalEntry>& entries) {
  std::string out;
  for (const auto& entry : entries) out += journal_line(entry) + "\n";
  return out;
}

std::vector<JournalEntry> from_lines(const std::string& text) {
  std::size_t damaged = 0;
  return parse_journal(text, &damaged);
}

/// What rank 0 found; its fields travel as plain numbers.
struct Finding {
  Opened opened = Opened::kNew;
  std::uint32_t start = 1;
};

}  // namespace

struct RunDirectory::Impl {
  Impl(const RunDirectoryConfig& c, comm::Communicator& world)
      : config(c), rank(world.rank()), run((fs::path(c.path) / ".run").string()), segments(run) {}

  void lock(comm::Communicator& world);
  Finding inspect(const Identity& identity);
  Opened start_over(const Identity& identity);
  void set_damaged_groups_aside(comm::Communicator& world);
  std::vector<JournalEntry> my_damaged_groups(const std::vector<JournalEntry>& all, int size);
  std::vector<JournalEntry> valid_groups() const;
  CommitThread& appender();
  CommitThread* existing_appender();  ///< null before the first append

  RunDirectoryConfig config;
  int rank;
  std::string run;
  std::optional<OwnerLock> owner_lock;    // rank 0
  std::optional<MemberLock> member_lock;  // let go before the owner's
  std::uint32_t start = 0;                // 0: not opened
  SegmentCache segments;
  std::mutex commits_mutex;
  std::unique_ptr<CommitThread> commits;  // made at the first append: ranks without results leave no files
};

void RunDirectory::Impl::lock(comm::Communicator& world) {
  RunLockConfig lock_config{.folder = run};
  comm::collectively(world, [&] {
    if (rank != 0) return;
    core::make_directories(run);
    require_real_folder(run);
    probe_writable(run);
    lock_config.owner = Owner::myself(config.command);
    owner_lock.emplace(lock_config);
  });
  comm::collectively(world, [&] { member_lock.emplace(lock_config); });
}

Opened RunDirectory::Impl::start_over(const Identity& identity) {
  clear_run_folder(run);
  write_identity((fs::path(run) / "identity.json").string(), identity);
  return Opened::kNew;
}

Finding RunDirectory::Impl::inspect(const Identity& identity) {
  if (config.fresh) {
    forget_results(config.path);
    return {.opened = start_over(identity)};
  }
  if (const auto manifest = read_manifest(config.path)) {
    require_same_job(manifest->identity, identity, config.path);
    const auto reopened = (fs::path(run) / kReopenedFile).string();
    const bool goes_on = config.reopen || fs::exists(reopened);
    if (!goes_on || read_journals(run).empty()) return {.opened = Opened::kFinished};
    core::publish_text(reopened, "");
    return {.opened = Opened::kResumed, .start = find_segments(run).back().start + 1};
  }
  // A job that never committed a result left nothing worth protecting: a first attempt with, say, a mistyped
  // setting does not stand in the way of the corrected one.
  if (read_journals(run).empty()) return {.opened = start_over(identity)};
  const auto before = read_identity((fs::path(run) / "identity.json").string());
  if (!before) {
    throw core::ResumeError(
        fmt::format("{} holds results but no identity.json, so it is unknown which job they belong to; "
                    "start over with --fresh",
                    run));
  }
  require_same_job(*before, identity, config.path);
  return {.opened = Opened::kResumed, .start = find_segments(run).back().start + 1};
}

std::vector<JournalEntry> RunDirectory::Impl::my_damaged_groups(const std::vector<JournalEntry>& all,
                                                                int size) {
  std::vector<JournalEntry> damaged;
  for (std::size_t i = static_cast<std::size_t>(rank); i < all.size(); i += static_cast<std::size_t>(size)) {
    const auto& entry = all[i];
    segments.will_read(entry.bytes);
    const auto path = (fs::path(run) / entry.segment).string();
    const auto problem = group_damage(segments.open(entry.segment, entry.offset + entry.bytes), entry, path);
    if (problem.empty()) continue;
    core::log::warning("{} results set aside, their items are done again: {}", entry.records, problem);
    damaged.push_back(entry);
  }
  return damaged;
}

/// Reads everything that earlier starts committed, each rank its share, so that rotten bytes are found now,
/// when their items can be done again, and not when the final file is written.
void RunDirectory::Impl::set_damaged_groups_aside(comm::Communicator& world) {
  std::string lines;
  comm::collectively(world, [&] {
    if (rank == 0) lines = to_lines(valid_groups());
  });
  lines = world.broadcast_string(lines);
  std::string mine;
  comm::collectively(world, [&] { mine = to_lines(my_damaged_groups(from_lines(lines), world.size())); });
  const auto found = core::join(world.gather_strings(mine), "");
  comm::collectively(world, [&] {
    if (rank != 0 || found.empty()) return;
    const auto path = (fs::path(run) / kDamagedFile).string();
    core::publish_text(path, (fs::exists(path) ? core::read_file(path, std::uint64_t{1} << 30) : "") + found);
  });
}

std::vector<JournalEntry> RunDirectory::Impl::valid_groups() const {
  auto entries = read_journals(run);
  const auto damaged = read_damaged_groups(run);
  std::erase_if(entries, [&](const JournalEntry& entry) {
    return damaged.contains({entry.segment, entry.offset});
  });
  return entries;
}

CommitThread& RunDirectory::Impl::appender() {
  const std::lock_guard guard(commits_mutex);
  core::internal_check(start != 0, "RunDirectory::open comes before append");
  if (!commits) {
    commits = std::make_unique<CommitThread>(CommitConfig{.folder = run,
                                                          .name = {start, static_cast<std::uint32_t>(rank)},
                                                          .seconds = config.commit_seconds,
                                                          .bytes = config.commit_bytes});
  }
  return *commits;
}

CommitThread* RunDirectory::Impl::existing_appender() {
  const std::lock_guard guard(commits_mutex);
  return commits.get();
}

RunDirectory::RunDirectory(const RunDirectoryConfig& config, comm::Communicator& world)
    : impl_(std::make_unique<Impl>(config, world)) {
  impl_->lock(world);
}

RunDirectory::~RunDirectory() = default;

Opened RunDirectory::open(const Identity& identity, comm::Communicator& world) {
  Finding finding;
  comm::collectively(world, [&] {
    if (world.is_root()) finding = impl_->inspect(identity);
  });
  const auto opened = static_cast<Opened>(world.broadcast_value(static_cast<std::int32_t>(finding.opened)));
  impl_->start = world.broadcast_value(finding.start);
  if (opened == Opened::kResumed) impl_->set_damaged_groups_aside(world);
  return opened;
}

const std::string& RunDirectory::path() const {
  return impl_->config.path;
}
std::string RunDirectory::file(const std::string& name) const {
  return (fs::path(path()) / name).string();
}
std::string RunDirectory::run_file(const std::string& name) const {
  return (fs::path(impl_->run) / name).string();
}

void RunDirectory::append(std::vector<formats::Record> records) {
  if (!records.empty()) impl_->appender().append(records);
}

void RunDirectory::flush() {
  if (auto* commits = impl_->existing_appender()) commits->flush();
}

std::uint64_t RunDirectory::committed_records() const {
  const auto* commits = impl_->existing_appender();
  return commits != nullptr ? commits->committed() : 0;
}

double RunDirectory::commit_seconds_spent() const {
  const auto* commits = impl_->existing_appender();
  return commits != nullptr ? commits->seconds_spent() : 0;
}

std::vector<JournalEntry> RunDirectory::journal() const {
  return impl_->valid_groups();
}

void RunDirectory::for_each_ref(
    const std::vector<JournalEntry>& entries,
    const std::function<void(const JournalEntry&, const formats::RecordRef&)>& visit) const {
  // Backwards, so that the last journalled record of an item comes first and one bit an item remembers it.
  std::vector<bool> seen;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    const auto end = entry->offset + entry->bytes;
    impl_->segments.will_read(end - entry->index_offset);
    const auto path = run_file(entry->segment);
    const auto refs =
        formats::read_index_frame(impl_->segments.open(entry->segment, end), entry->index_offset, path);
    for (auto ref = refs.rbegin(); ref != refs.rend(); ++ref) {
      if (ref->item >= kMaxItem) throw core::DataError(fmt::format("{}: item {} cannot be", path, ref->item));
      if (ref->item >= seen.size()) seen.resize(std::max<std::size_t>(ref->item + 1, seen.size() * 2));
      if (seen[ref->item]) continue;
      seen[ref->item] = true;
      visit(*entry, *ref);
    }
  }
}

std::span<const std::byte> RunDirectory::payload(const std::string& segment,
                                                 const formats::RecordRef& ref) const {
  impl_->segments.will_read(ref.payload_bytes + kFrameOverhead);
  const auto bytes = impl_->segments.open(segment, ref.offset + ref.payload_bytes + kFrameOverhead);
  return formats::read_record(bytes, ref, run_file(segment));
}

void RunDirectory::close_reopened() {
  const auto path = run_file(kReopenedFile);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    throw core::OutputError(fmt::format("cannot remove {}: {}", path, core::errno_text(errno)));
  }
}

void RunDirectory::remove_run_files() {
  if (impl_->rank == 0 && !impl_->config.keep_segments) remove_run_folder(impl_->run);
}

}  // namespace muster::io
