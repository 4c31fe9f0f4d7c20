// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/session.h"

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "comm/affinity.h"
#include "comm/launch_environment.h"
#include "comm/mpi_backend.h"
#include "muster/comm/launch.h"
#include "muster/core/env.h"
#include "muster/core/log.h"

namespace muster::comm {
namespace {

constexpr auto kAbortGrace = std::chrono::seconds(2);

/// Open MPI moves large messages between processes of a node with process_vm_readv where it believes that
/// this works; some containers refuse the call, and every message then prints a warning.
bool kernel_copies_between_processes() {
  int value = 1, copy = 0;
  const iovec local{&copy, sizeof copy}, remote{&value, sizeof value};
  return ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == sizeof copy;
}

void prepare_environment() {
  // A rank that waits otherwise takes half of a core that it shares with one that computes.
  core::set_env("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/false);
  if (!kernel_copies_between_processes())
    core::set_env("OMPI_MCA_btl_vader_single_copy_mechanism", "none", /*overwrite=*/false);
  // A world of one needs no daemon beside it, which would outlive a kill -9.
  if (detect_launch() == Launch::kAlone)
    core::set_env("OMPI_MCA_ess_singleton_isolated", "1", /*overwrite=*/false);
}

void start_mpi(int* argc, char*** argv) {
  prepare_environment();
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    throw core::CommError(
        "this MPI library has no MPI_THREAD_MULTIPLE, which muster needs; use an Open MPI built with "
        "threads");
  }
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

std::string processor_name() {
  char name[MPI_MAX_PROCESSOR_NAME] = {};
  int length = 0;
  check_mpi(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
  return std::string(name, static_cast<std::size_t>(length));
}

std::uint64_t random_number() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

Communicator node_communicator(const RankPlace& place) {
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, place.rank, MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  return Communicator(std::make_unique<MpiBackend>(UniqueMpiComm(node), TransferLimit{}));
}

/// Every local rank's core mask, by local rank.
std::vector<std::vector<int>> node_masks(Communicator& node) {
  const auto mine = affinity_words(current_affinity());
  std::vector<std::uint64_t> all(mine.size() * static_cast<std::size_t>(node.size()));
  node.all_gather(ConstBuffer(mine), Buffer(all));
  std::vector<std::vector<int>> masks;
  for (std::size_t first = 0; first < all.size(); first += mine.size()) {
    masks.push_back(affinity_cores(std::span(all).subspan(first, mine.size())));
  }
  return masks;
}

/// One line for the whole job when ranks were bound to fewer cores than their share of the node.
void warn_of_narrow_masks(Communicator& world, const RankPlace& place) {
  const auto available = available_cores().size();
  const std::size_t share = std::max<std::size_t>(1, available / static_cast<std::size_t>(place.local_size));
  const auto narrow = world.all_gather_value<std::uint8_t>(place.cores.size() < share ? 1 : 0);
  const auto first = std::ranges::find(narrow, 1);
  if (first == narrow.end() || first - narrow.begin() != place.rank) return;
  core::log::warning(
      "{} of {} ranks may use fewer cores than their share of the node (rank {}: {} of {} cores of {}); "
      "start with "
      "'mpirun --bind-to none' (srun --cpu-bind=none) to use them all",
      std::ranges::count(narrow, 1), narrow.size(), place.rank, place.cores.size(), share, place.host);
}

RankPlace find_place(Communicator& world) {
  RankPlace place;
  place.rank = world.rank();
  place.size = world.size();
  place.host = processor_name();
  place.job = world.broadcast_value(random_number());
  Communicator node = node_communicator(place);
  place.local_rank = node.rank();
  place.local_size = node.size();
  const auto leader = node.broadcast_value<std::int32_t>(place.rank);
  auto leaders = world.all_gather_value(leader);
  std::ranges::sort(leaders);
  leaders.erase(std::ranges::unique(leaders).begin(), leaders.end());
  place.nodes = static_cast<int>(leaders.size());
  place.node = static_cast<int>(std::ranges::lower_bound(leaders, leader) - leaders.begin());
  place.cores = core_share(node_masks(node), place.local_rank);
  return place;
}

}  // namespace

Session::Session(int* argc, char*** argv) {
  start_mpi(argc, argv);
  try {
    world_ = make_mpi_communicator();
    require_one_world(world_.size());
    place_ = find_place(world_);
    warn_of_narrow_masks(world_, place_);
  } catch (const std::exception& error) {
    // The destructor will not run, and a rank that fails here alone must take the others along.
    if (world_ && world_.size() > 1) {
      core::log::error("{}", error.what());
      abort(static_cast<int>(core::exit_code_of(error)));
    }
    world_ = Communicator();
    MPI_Finalize();
    throw;
  }
}

Session::~Session() {
  if (abandoned_) return;
  world_ = Communicator();
  MPI_Finalize();
}

void Session::abort(int code) {
  // MPI_Abort may wait for a lock that a stuck thread holds.
  std::thread([code] {
    std::this_thread::sleep_for(kAbortGrace);
    ::_exit(code);
  }).detach();
  int initialized = 0, finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized != 0 && finalized == 0) {
    int size = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size > 1) MPI_Abort(MPI_COMM_WORLD, code);
  }
  ::_exit(code);
}

std::vector<int> core_share(const std::vector<std::vector<int>>& masks, int local_rank) {
  const auto& mine = masks.at(static_cast<std::size_t>(local_rank));
  core::internal_check(!mine.empty(), "a process may run on at least one core");
  std::size_t before = 0, sharers = 0;
  for (std::size_t r = 0; r < masks.size(); ++r) {
    if (masks[r] != mine) continue;
    if (r < static_cast<std::size_t>(local_rank)) ++before;
    ++sharers;
  }
  const std::size_t first = before * mine.size() / sharers;
  const std::size_t last = std::max(first + 1, (before + 1) * mine.size() / sharers);
  return {mine.begin() + static_cast<std::ptrdiff_t>(first),
          mine.begin() + static_cast<std::ptrdiff_t>(last)};
}

std::string rank_label(const RankPlace& place) {
  return place.size == 1 ? std::string() : fmt::format("rank {}/{} {}", place.rank, place.size, place.host);
}

}  // namespace muster::comm
