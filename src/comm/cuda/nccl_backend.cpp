// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda/nccl_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "muster/core/clock.h"
#include "muster/core/half.h"

namespace muster::comm {
namespace {

constexpr double kFinalizeSeconds = 10;

/// Waits a little: at first only for other threads, so that a short collective costs microseconds.
class Pause {
 public:
  void operator()() {
    if (++polls_ < 200) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

 private:
  int polls_ = 0;
};

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return ncclUint8;
    case DType::kI32:
      return ncclInt32;
    case DType::kU32:
      return ncclUint32;
    case DType::kI64:
      return ncclInt64;
    case DType::kU64:
      return ncclUint64;
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kF16:
      return ncclFloat16;
    case DType::kBF16:
      return ncclBfloat16;
  }
  throw core::InternalError("unknown DType");
}

ncclRedOp_t nccl_op(Op op) {
  return op == Op::kSum ? ncclSum : op == Op::kMin ? ncclMin : ncclMax;
}

ncclConfig_t nonblocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

bool is_started(ncclResult_t result) {
  return result == ncclSuccess || result == ncclInProgress;
}

/// Several calls that NCCL carries out together; the first error counts.
template <class Calls>
ncclResult_t grouped(const Calls& calls) {
  ncclResult_t first = ncclGroupStart();
  calls([&first](ncclResult_t result) {
    if (is_started(first) && !is_started(result)) first = result;
  });
  const ncclResult_t end = ncclGroupEnd();
  return is_started(first) ? end : first;
}

std::byte* at(void* data, std::size_t bytes) {
  return static_cast<std::byte*>(data) + bytes;
}
const std::byte* at(const void* data, std::size_t bytes) {
  return static_cast<const std::byte*>(data) + bytes;
}

/// Elements of a part that belong to one round of `per_round`.
std::size_t in_round(std::uint64_t count, std::size_t round, std::size_t per_round) {
  const std::uint64_t first = std::uint64_t{round} * per_round;
  return first >= count ? 0 : static_cast<std::size_t>(std::min<std::uint64_t>(per_round, count - first));
}

}  // namespace

std::unique_ptr<NcclBackend> NcclBackend::create(const NcclSetup& setup) {
  check_cuda(cudaSetDevice(setup.config.device), "cudaSetDevice");
  ncclUniqueId id;
  static_assert(sizeof id == sizeof setup.id);
  std::copy(setup.id.begin(), setup.id.end(), reinterpret_cast<std::byte*>(&id));
  ncclConfig_t config = nonblocking();
  ncclComm_t comm = nullptr;
  const ncclResult_t result = ncclCommInitRankConfig(&comm, setup.size, id, setup.rank, &config);
  if (!is_started(result)) {
    throw core::CommError(fmt::format("ncclCommInitRankConfig failed: {}: {}", ncclGetErrorString(result),
                                      ncclGetLastError(nullptr)));
  }
  return std::make_unique<NcclBackend>(comm, setup.config);
}

NcclBackend::NcclBackend(ncclComm_t comm, const NcclConfig& config) : config_(config), comm_(comm) {
  settle("ncclCommInitRankConfig");
  ncclCommUserRank(comm_, &rank_);
  ncclCommCount(comm_, &size_);
  try {
    stream_ = make_stream();
    event_ = make_event();
  } catch (...) {
    ncclCommAbort(comm_);
    throw;
  }
}

NcclBackend::~NcclBackend() {
  if (comm_ == nullptr) return;
  try {
    config_.timeout_seconds = std::min(config_.timeout_seconds, kFinalizeSeconds);
    issue("ncclCommFinalize", [this] { return ncclCommFinalize(comm_); });
    ncclCommDestroy(comm_);
  } catch (const std::exception&) {
    // The ranks part without a farewell: fail() has aborted the communicator.
  }
}

void NcclBackend::fail(const char* call, const std::string& why) {
  const std::string detail = ncclGetLastError(comm_);
  ncclCommAbort(comm_);
  comm_ = nullptr;
  throw core::CommError(fmt::format(
      "{} on rank {} of {} (GPU {}) failed: {}{}{}; the communicator is aborted, run the same command again",
      call, rank_, size_, config_.device, why, detail.empty() ? "" : ": ", detail));
}

void NcclBackend::check_deadline(const char* call, double start) {
  if (abort_requested_) fail(call, "abort was asked for");
  if (core::monotonic_seconds() - start > config_.timeout_seconds) {
    fail(call,
         fmt::format("not done after {} (run.nccl_timeout)", core::human_duration(config_.timeout_seconds)));
  }
}

void NcclBackend::begin() {
  if (comm_ == nullptr) throw core::CommError("this NCCL communicator was aborted");
  check_cuda(cudaSetDevice(config_.device), "cudaSetDevice");  // a thread starts with device 0
  check_cuda(cudaEventRecord(event_.get(), cudaStreamLegacy), "cudaEventRecord");
  check_cuda(cudaStreamWaitEvent(stream_.get(), event_.get(), 0), "cudaStreamWaitEvent");
}

/// Until NCCL has taken up what was asked of it.
void NcclBackend::settle(const char* call) {
  const double start = core::monotonic_seconds();
  for (Pause pause;; pause()) {
    ncclResult_t state = ncclSuccess;
    if (const auto asked = ncclCommGetAsyncError(comm_, &state); asked != ncclSuccess) state = asked;
    if (state == ncclSuccess) return;
    if (state != ncclInProgress) fail(call, ncclGetErrorString(state));
    check_deadline(call, start);
  }
}

/// Until the device has done everything on our stream.
void NcclBackend::finish(const char* call) {
  const double start = core::monotonic_seconds();
  for (Pause pause;; pause()) {
    ncclResult_t state = ncclSuccess;
    if (const auto asked = ncclCommGetAsyncError(comm_, &state); asked != ncclSuccess) state = asked;
    if (!is_started(state)) fail(call, ncclGetErrorString(state));
    const cudaError_t done = cudaStreamQuery(stream_.get());
    if (done == cudaSuccess) return;
    if (done != cudaErrorNotReady) fail(call, cudaGetErrorString(done));
    check_deadline(call, start);
  }
}

template <class Enqueue>
void NcclBackend::issue(const char* call, const Enqueue& enqueue) {
  if (const ncclResult_t result = enqueue(); !is_started(result)) fail(call, ncclGetErrorString(result));
  settle(call);
}

void NcclBackend::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0)
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_.get()), "cudaMemcpyAsync");
}

/// At least one element of the widest type for each rank and back fits, however small the setting.
std::size_t NcclBackend::staging_size() const {
  return std::max(config_.staging_bytes, 2 * sizeof(double) * static_cast<std::size_t>(size_));
}

std::byte* NcclBackend::staging() {
  if (!staging_) staging_ = allocate_device(staging_size());
  return static_cast<std::byte*>(staging_.get());
}

std::byte* NcclBackend::pinned() {
  if (!pinned_) pinned_ = allocate_pinned(staging_size());
  return static_cast<std::byte*>(pinned_.get());
}

std::size_t NcclBackend::elements_per_rank(std::size_t width) const {
  return std::max<std::size_t>(1, config_.staging_bytes / (width * static_cast<std::size_t>(size_)));
}

/// Runs `transfer(device pointer, elements)` on the buffer piece by piece, in place on the device or through
/// staging.
template <class Transfer>
void NcclBackend::in_place(Buffer buffer, Flow flow, const char* call, const Transfer& transfer) {
  begin();
  const std::size_t width = dtype_bytes(buffer.dtype);
  const std::size_t per_piece = std::max<std::size_t>(1, config_.staging_bytes / width);
  for (std::size_t first = 0; first < buffer.count; first += per_piece) {
    const std::size_t n = std::min(per_piece, buffer.count - first);
    std::byte* piece = at(buffer.data, first * width);
    if (buffer.memory == Memory::kDevice) {
      issue(call, [&] { return transfer(piece, n); });
      continue;
    }
    if (flow != Flow::kOut) copy(staging(), piece, n * width);
    issue(call, [&] { return transfer(staging(), n); });
    finish(call);
    if (flow != Flow::kIn) copy(piece, staging(), n * width);
  }
  finish(call);
}

void NcclBackend::barrier() {
  begin();
  issue("barrier",
        [&] { return ncclAllReduce(staging(), staging(), 1, ncclInt32, ncclSum, comm_, stream_.get()); });
  finish("barrier");
}

void NcclBackend::broadcast(Buffer buffer, int root) {
  const Buffer bytes(buffer.data, buffer.bytes(), DType::kU8, buffer.memory);
  in_place(bytes, rank_ == root ? Flow::kIn : Flow::kOut, "ncclBroadcast", [&](void* data, std::size_t n) {
    return ncclBroadcast(data, data, n, ncclUint8, root, comm_, stream_.get());
  });
}

void NcclBackend::all_reduce(Buffer buffer, Op op, Accumulate accumulate) {
  const bool is_16_bit = buffer.dtype == DType::kF16 || buffer.dtype == DType::kBF16;
  // Minimum and maximum round nothing; only sums are widened.
  if (is_16_bit && op == Op::kSum && accumulate == Accumulate::kFloat32) return reduce_widened(buffer);
  in_place(buffer, Flow::kInOut, "ncclAllReduce", [&](void* data, std::size_t n) {
    return ncclAllReduce(data, data, n, nccl_type(buffer.dtype), nccl_op(op), comm_, stream_.get());
  });
}

/// The conversions run on the host: they would need a kernel, and this library is built without a device
/// compiler.
void NcclBackend::reduce_widened(Buffer buffer) {
  begin();
  const char* const call = "ncclAllReduce (16-bit, widened)";
  const auto to_float = buffer.dtype == DType::kBF16 ? core::bfloat16_to_float : core::half_to_float;
  const auto from_float = buffer.dtype == DType::kBF16 ? core::float_to_bfloat16 : core::float_to_half;
  const std::size_t per_piece =
      std::max<std::size_t>(1, config_.staging_bytes / (sizeof(float) + sizeof(std::uint16_t)));
  auto* wide = reinterpret_cast<float*>(pinned());
  auto* narrow = reinterpret_cast<std::uint16_t*>(wide + per_piece);
  for (std::size_t first = 0; first < buffer.count; first += per_piece) {
    const std::size_t n = std::min(per_piece, buffer.count - first);
    std::byte* piece = at(buffer.data, first * sizeof(std::uint16_t));
    copy(narrow, piece, n * sizeof(std::uint16_t));
    finish(call);
    std::transform(narrow, narrow + n, wide, to_float);
    copy(staging(), wide, n * sizeof(float));
    issue(call,
          [&] { return ncclAllReduce(staging(), staging(), n, ncclFloat32, ncclSum, comm_, stream_.get()); });
    copy(wide, staging(), n * sizeof(float));
    finish(call);
    std::transform(wide, wide + n, narrow, from_float);
    copy(piece, narrow, n * sizeof(std::uint16_t));
    finish(call);
  }
}

void NcclBackend::all_gather(ConstBuffer send, Buffer receive) {
  const char* const call = "ncclAllGather";
  const auto ranks = static_cast<std::size_t>(size_);
  core::internal_check(receive.count == send.count * ranks && receive.dtype == send.dtype,
                       "all_gather receives size() times what each rank sends");
  begin();
  const std::size_t width = dtype_bytes(send.dtype), per_round = elements_per_rank(width);
  for (std::size_t first = 0; first < send.count; first += per_round) {
    const std::size_t bytes = std::min(per_round, send.count - first) * width;
    std::byte* own = staging() + static_cast<std::size_t>(rank_) * bytes;
    copy(own, at(send.data, first * width), bytes);
    issue(call, [&] { return ncclAllGather(own, staging(), bytes, ncclUint8, comm_, stream_.get()); });
    finish(call);
    for (std::size_t r = 0; r < ranks; ++r) {
      copy(at(receive.data, (r * send.count + first) * width), staging() + r * bytes, bytes);
    }
    finish(call);
  }
}

void NcclBackend::gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts, int root) {
  const char* const call = "gatherv (ncclSend/ncclRecv)";
  begin();
  const std::size_t width = dtype_bytes(send.dtype), per_round = elements_per_rank(width);
  if (rank_ != root) {
    for (std::size_t round = 0; const std::size_t n = in_round(send.count, round, per_round); ++round) {
      copy(staging(), at(send.data, round * per_round * width), n * width);
      issue(call, [&] { return ncclSend(staging(), n * width, ncclUint8, root, comm_, stream_.get()); });
      finish(call);
    }
    return;
  }
  const std::uint64_t longest = counts.empty() ? 0 : *std::ranges::max_element(counts);
  for (std::size_t round = 0; in_round(longest, round, per_round) > 0; ++round) {
    const auto slot = [&](int r) { return staging() + static_cast<std::size_t>(r) * per_round * width; };
    const auto bytes = [&](int r) {
      return in_round(counts[static_cast<std::size_t>(r)], round, per_round) * width;
    };
    issue(call, [&] {
      return grouped([&](const auto& note) {
        for (int r = 0; r < size_; ++r) {
          if (r != root && bytes(r) > 0)
            note(ncclRecv(slot(r), bytes(r), ncclUint8, r, comm_, stream_.get()));
        }
      });
    });
    finish(call);
    std::uint64_t offset = 0;
    for (int r = 0; r < size_; ++r) {
      const void* from = r == root ? at(send.data, round * per_round * width) : slot(r);
      copy(at(receive.data, (offset + round * per_round) * width), from, bytes(r));
      offset += counts[static_cast<std::size_t>(r)];
    }
    finish(call);
  }
}

void NcclBackend::scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive,
                           int root) {
  const char* const call = "scatterv (ncclSend/ncclRecv)";
  begin();
  const std::size_t width = dtype_bytes(receive.dtype), per_round = elements_per_rank(width);
  if (rank_ != root) {
    for (std::size_t round = 0; const std::size_t n = in_round(receive.count, round, per_round); ++round) {
      issue(call, [&] { return ncclRecv(staging(), n * width, ncclUint8, root, comm_, stream_.get()); });
      finish(call);
      copy(at(receive.data, round * per_round * width), staging(), n * width);
      finish(call);
    }
    return;
  }
  const std::uint64_t longest = counts.empty() ? 0 : *std::ranges::max_element(counts);
  for (std::size_t round = 0; in_round(longest, round, per_round) > 0; ++round) {
    const auto slot = [&](int r) { return staging() + static_cast<std::size_t>(r) * per_round * width; };
    const auto bytes = [&](int r) {
      return in_round(counts[static_cast<std::size_t>(r)], round, per_round) * width;
    };
    std::uint64_t offset = 0;
    for (int r = 0; r < size_; ++r) {
      void* to = r == root ? static_cast<void*>(at(receive.data, round * per_round * width)) : slot(r);
      copy(to, at(send.data, (offset + round * per_round) * width), bytes(r));
      offset += counts[static_cast<std::size_t>(r)];
    }
    issue(call, [&] {
      return grouped([&](const auto& note) {
        for (int r = 0; r < size_; ++r) {
          if (r != root && bytes(r) > 0)
            note(ncclSend(slot(r), bytes(r), ncclUint8, r, comm_, stream_.get()));
        }
      });
    });
    finish(call);
  }
}

void NcclBackend::all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                              std::span<const std::uint64_t> receive_counts) {
  const char* const call = "all_to_allv (ncclSend/ncclRecv)";
  const auto ranks = static_cast<std::size_t>(size_);
  core::internal_check(
      send_counts.size() == ranks && receive_counts.size() == ranks && send.dtype == receive.dtype,
      "all_to_allv has one count a rank on both sides");
  begin();
  // One half of the staging buffer goes out, the other comes in.
  const std::size_t width = dtype_bytes(send.dtype), per_round = elements_per_rank(2 * width);
  std::uint64_t longest = 0;
  for (std::size_t r = 0; r < ranks; ++r) longest = std::max({longest, send_counts[r], receive_counts[r]});
  for (std::size_t round = 0; in_round(longest, round, per_round) > 0; ++round) {
    const auto place = [&](std::size_t part) { return staging() + part * per_round * width; };
    const auto bytes = [&](std::uint64_t count) { return in_round(count, round, per_round) * width; };
    std::uint64_t offset = 0;
    for (std::size_t r = 0; r < ranks; offset += send_counts[r++])
      copy(place(r), at(send.data, (offset + round * per_round) * width), bytes(send_counts[r]));
    issue(call, [&] {
      return grouped([&](const auto& note) {
        for (std::size_t r = 0; r < ranks; ++r) {
          const int peer = static_cast<int>(r);
          if (const std::size_t n = bytes(send_counts[r]); n > 0)
            note(ncclSend(place(r), n, ncclUint8, peer, comm_, stream_.get()));
          if (const std::size_t n = bytes(receive_counts[r]); n > 0)
            note(ncclRecv(place(ranks + r), n, ncclUint8, peer, comm_, stream_.get()));
        }
      });
    });
    finish(call);
    offset = 0;
    for (std::size_t r = 0; r < ranks; offset += receive_counts[r++])
      copy(at(receive.data, (offset + round * per_round) * width), place(ranks + r),
           bytes(receive_counts[r]));
    finish(call);
  }
}

void NcclBackend::send(ConstBuffer buffer, int peer, int) {
  const Buffer bytes(const_cast<void*>(buffer.data), buffer.bytes(), DType::kU8, buffer.memory);
  in_place(bytes, Flow::kIn, "ncclSend", [&](void* data, std::size_t n) {
    return ncclSend(data, n, ncclUint8, peer, comm_, stream_.get());
  });
}

void NcclBackend::receive(Buffer buffer, int peer, int) {
  const Buffer bytes(buffer.data, buffer.bytes(), DType::kU8, buffer.memory);
  in_place(bytes, Flow::kOut, "ncclRecv", [&](void* data, std::size_t n) {
    return ncclRecv(data, n, ncclUint8, peer, comm_, stream_.get());
  });
}

std::optional<int> NcclBackend::probe(int) {
  throw core::CommError("NCCL cannot look for messages; use an MPI communicator");
}

std::unique_ptr<Backend> NcclBackend::duplicate() {
  return split(0, rank_);
}

std::unique_ptr<Backend> NcclBackend::split(int color, int key) {
  begin();
  ncclConfig_t config = nonblocking();
  ncclComm_t part = nullptr;
  issue("ncclCommSplit",
        [&] { return ncclCommSplit(comm_, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &part, &config); });
  if (part == nullptr) return nullptr;
  return std::make_unique<NcclBackend>(part, config_);
}

void NcclBackend::abort(const std::string&) noexcept {
  abort_requested_ = true;
}

}  // namespace muster::comm

extern "C" __attribute__((visibility("default"))) void muster_nccl_unique_id(muster::comm::NcclId* out) {
  ncclUniqueId id;
  if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
    throw muster::core::CommError(
        fmt::format("ncclGetUniqueId failed: {}: {}", ncclGetErrorString(result), ncclGetLastError(nullptr)));
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(&id);
  std::copy(bytes, bytes + sizeof id, out->begin());
}

extern "C" __attribute__((visibility("default"))) int muster_nccl_version() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

extern "C" __attribute__((visibility("default"))) muster::comm::Backend* muster_nccl_create(
    const muster::comm::NcclSetup* setup) {
  return muster::comm::NcclBackend::create(*setup).release();
}
