// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <numeric>

#include "muster/comm/session.h"
#include "muster/core/half.h"
#include "muster/core/log.h"

namespace muster::comm {
namespace {

constexpr int kBulkTag = 32767;  // MPI guarantees tags up to here; callers use smaller ones

const std::byte* at(const void* data, std::size_t bytes) {
  return static_cast<const std::byte*>(data) + bytes;
}
std::byte* at(void* data, std::size_t bytes) {
  return static_cast<std::byte*>(data) + bytes;
}

void require_host(Memory memory) {
  core::internal_check(memory == Memory::kHost,
                       "device memory over MPI needs a communicator made with DeviceCopies");
}

MPI_Op mpi_op(Op op) {
  return op == Op::kSum ? MPI_SUM : op == Op::kMin ? MPI_MIN : MPI_MAX;
}

bool is_16_bit_float(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16;
}

/// The transfer of `count` elements in pieces: calls `piece(first element, elements)`.
template <class Piece>
void in_pieces(std::size_t count, std::size_t per_call, const Piece& piece) {
  for (std::size_t first = 0; first < count; first += per_call) {
    piece(first, static_cast<int>(std::min(per_call, count - first)));
  }
}

/// Counts and displacements as MPI wants them; the total is known to fit.
struct IntLayout {
  explicit IntLayout(std::span<const std::uint64_t> source)
      : counts(source.begin(), source.end()), offsets(source.size()) {
    std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
  }
  std::vector<int> counts, offsets;
};

std::size_t before(std::span<const std::uint64_t> counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, std::size_t{0});
}

void check_parts(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                 std::span<const std::uint64_t> receive_counts, int ranks) {
  const auto one_a_rank = static_cast<std::size_t>(ranks);
  core::internal_check(send_counts.size() == one_a_rank && receive_counts.size() == one_a_rank &&
                           before(send_counts, ranks) == send.count &&
                           before(receive_counts, ranks) == receive.count && send.dtype == receive.dtype,
                       "all_to_allv has one count a rank on both sides, which add up to its buffers");
}

void copy_own_part(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                   std::span<const std::uint64_t> receive_counts, int rank) {
  const auto own = static_cast<std::size_t>(rank);
  core::internal_check(send_counts[own] == receive_counts[own],
                       "a rank sends itself what it receives from itself");
  const std::size_t width = dtype_bytes(send.dtype);
  if (send_counts[own] == 0) return;
  std::memcpy(at(receive.data, before(receive_counts, rank) * width),
              at(send.data, before(send_counts, rank) * width), send_counts[own] * width);
}

template <auto to_float, auto from_float>
void add_native(void* in, void* in_out, int* count, MPI_Datatype*) {
  const auto* a = static_cast<const std::uint16_t*>(in);
  auto* b = static_cast<std::uint16_t*>(in_out);
  for (int i = 0; i < *count; ++i) b[i] = from_float(to_float(a[i]) + to_float(b[i]));
}

UniqueMpiOp make_op(MPI_User_function* function) {
  MPI_Op op = MPI_OP_NULL;
  check_mpi(MPI_Op_create(function, 1, &op), "MPI_Op_create");
  return UniqueMpiOp(op);
}

}  // namespace

MpiBackend::MpiBackend(UniqueMpiComm comm, TransferLimit limit)
    : comm_(std::move(comm)), handle_(comm_.get()), limit_(limit) {
  check_mpi(MPI_Comm_rank(handle_, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(handle_, &size_), "MPI_Comm_size");
}

std::size_t MpiBackend::elements_per_call(DType dtype) const {
  return std::clamp<std::size_t>(limit_.bytes / dtype_bytes(dtype), 1, INT_MAX);
}

void MpiBackend::barrier() {
  check_mpi(MPI_Barrier(handle_), "MPI_Barrier");
}

void MpiBackend::broadcast(Buffer buffer, int root) {
  require_host(buffer.memory);
  in_pieces(buffer.count, elements_per_call(buffer.dtype), [&](std::size_t first, int n) {
    check_mpi(MPI_Bcast(at(buffer.data, first * dtype_bytes(buffer.dtype)), n, mpi_type(buffer.dtype), root,
                        handle_),
              "MPI_Bcast");
  });
}

void MpiBackend::all_reduce(Buffer buffer, Op op, Accumulate accumulate) {
  require_host(buffer.memory);
  if (is_16_bit_float(buffer.dtype)) {
    if (op == Op::kSum && accumulate == Accumulate::kNative) return reduce_native_sum(buffer);
    return reduce_widened(buffer, op);
  }
  in_pieces(buffer.count, elements_per_call(buffer.dtype), [&](std::size_t first, int n) {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, at(buffer.data, first * dtype_bytes(buffer.dtype)), n,
                            mpi_type(buffer.dtype), mpi_op(op), handle_),
              "MPI_Allreduce");
  });
}

void MpiBackend::reduce_widened(Buffer buffer, Op op) {
  // Bounded memory: the fp32 copy is made piece by piece.
  const std::size_t per_call = std::min<std::size_t>(elements_per_call(DType::kF32), std::size_t{1} << 24);
  auto* values = static_cast<std::uint16_t*>(buffer.data);
  const auto to_float = buffer.dtype == DType::kBF16 ? core::bfloat16_to_float : core::half_to_float;
  const auto from_float = buffer.dtype == DType::kBF16 ? core::float_to_bfloat16 : core::float_to_half;
  std::vector<float> wide(std::min(per_call, buffer.count));
  in_pieces(buffer.count, per_call, [&](std::size_t first, int n) {
    std::transform(values + first, values + first + n, wide.begin(), to_float);
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, wide.data(), n, MPI_FLOAT, mpi_op(op), handle_), "MPI_Allreduce");
    std::transform(wide.begin(), wide.begin() + n, values + first, from_float);
  });
}

void MpiBackend::reduce_native_sum(Buffer buffer) {
  UniqueMpiOp& op = buffer.dtype == DType::kBF16 ? sum_bf16_ : sum_fp16_;
  if (!op) {
    op = make_op(buffer.dtype == DType::kBF16 ? add_native<core::bfloat16_to_float, core::float_to_bfloat16>
                                              : add_native<core::half_to_float, core::float_to_half>);
  }
  in_pieces(buffer.count, elements_per_call(buffer.dtype), [&](std::size_t first, int n) {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, at(buffer.data, first * 2), n, MPI_UINT16_T, op.get(), handle_),
              "MPI_Allreduce");
  });
}

void MpiBackend::all_gather(ConstBuffer send, Buffer receive) {
  require_host(send.memory);
  require_host(receive.memory);
  const auto ranks = static_cast<std::size_t>(size_);
  core::internal_check(receive.count == send.count * ranks && receive.dtype == send.dtype,
                       "all_gather receives size() times what each rank sends");
  const MPI_Datatype type = mpi_type(send.dtype);
  const std::size_t width = dtype_bytes(send.dtype);
  // The limit counts what one call moves into a rank.
  const std::size_t per_call = std::max<std::size_t>(1, elements_per_call(send.dtype) / ranks);
  if (send.count <= per_call) {
    const int n = static_cast<int>(send.count);
    // MPI forbids buffers that overlap, unless it is told.
    const bool in_place = send.data == at(receive.data, static_cast<std::size_t>(rank_) * send.bytes());
    check_mpi(MPI_Allgather(in_place ? MPI_IN_PLACE : send.data, n, type, receive.data, n, type, handle_),
              "MPI_Allgather");
    return;
  }
  std::vector<std::byte> round(per_call * ranks * width);
  in_pieces(send.count, per_call, [&](std::size_t first, int n) {
    check_mpi(MPI_Allgather(at(send.data, first * width), n, type, round.data(), n, type, handle_),
              "MPI_Allgather");
    const std::size_t bytes = static_cast<std::size_t>(n) * width;
    for (std::size_t r = 0; r < ranks; ++r) {
      std::memcpy(at(receive.data, (r * send.count + first) * width), round.data() + r * bytes, bytes);
    }
  });
}

MpiBackend::Agreement MpiBackend::agree(std::span<const std::uint64_t> counts, DType dtype, std::size_t mine,
                                        int root) {
  std::vector<Agreement> all;
  if (rank_ == root) {
    core::internal_check(counts.size() == static_cast<std::size_t>(size_), "root gives one count a rank");
    const auto total = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
    const std::uint64_t fits = total <= elements_per_call(dtype) ? 1 : 0;
    for (const auto count : counts) all.push_back({count, fits});
  }
  Agreement own{};
  check_mpi(MPI_Scatter(all.data(), 2, MPI_UINT64_T, &own, 2, MPI_UINT64_T, root, handle_), "MPI_Scatter");
  core::internal_check(own.count == mine, fmt::format("root counts {} elements for rank {}, which has {}",
                                                      own.count, rank_, mine));
  return own;
}

void MpiBackend::gatherv(ConstBuffer send, Buffer receive, std::span<const std::uint64_t> counts, int root) {
  require_host(send.memory);
  require_host(receive.memory);
  const Agreement own = agree(counts, send.dtype, send.count, root);
  const MPI_Datatype type = mpi_type(send.dtype);
  if (own.fits != 0) {
    const IntLayout layout(rank_ == root ? counts : std::span<const std::uint64_t>());
    check_mpi(MPI_Gatherv(send.data, static_cast<int>(send.count), type, receive.data, layout.counts.data(),
                          layout.offsets.data(), type, root, handle_),
              "MPI_Gatherv");
    return;
  }
  // Above the limit the parts come one after the other, straight to their place.
  if (rank_ != root) return this->send(send, root, kBulkTag);
  std::size_t offset = 0;
  for (int r = 0; r < size_; ++r) {
    const std::size_t count = counts[static_cast<std::size_t>(r)];
    std::byte* place = at(receive.data, offset * dtype_bytes(send.dtype));
    if (r != root) {
      this->receive(Buffer(place, count, send.dtype, Memory::kHost), r, kBulkTag);
    } else if (count > 0) {
      std::memcpy(place, send.data, send.bytes());
    }
    offset += count;
  }
}

void MpiBackend::scatterv(ConstBuffer send, std::span<const std::uint64_t> counts, Buffer receive, int root) {
  require_host(send.memory);
  require_host(receive.memory);
  const Agreement own = agree(counts, receive.dtype, receive.count, root);
  const MPI_Datatype type = mpi_type(receive.dtype);
  if (own.fits != 0) {
    const IntLayout layout(rank_ == root ? counts : std::span<const std::uint64_t>());
    check_mpi(MPI_Scatterv(send.data, layout.counts.data(), layout.offsets.data(), type, receive.data,
                           static_cast<int>(receive.count), type, root, handle_),
              "MPI_Scatterv");
    return;
  }
  if (rank_ != root) return this->receive(receive, root, kBulkTag);
  std::size_t offset = 0;
  for (int r = 0; r < size_; ++r) {
    const std::size_t count = counts[static_cast<std::size_t>(r)];
    const std::byte* place = at(send.data, offset * dtype_bytes(receive.dtype));
    if (r != root) {
      this->send(ConstBuffer(place, count, receive.dtype, Memory::kHost), r, kBulkTag);
    } else if (count > 0) {
      std::memcpy(receive.data, place, receive.bytes());
    }
    offset += count;
  }
}

/// Point to point: nobody needs to know whether the others' parts fit one call.
void MpiBackend::all_to_allv(ConstBuffer send, std::span<const std::uint64_t> send_counts, Buffer receive,
                             std::span<const std::uint64_t> receive_counts) {
  require_host(send.memory);
  require_host(receive.memory);
  check_parts(send, send_counts, receive, receive_counts, size_);
  const std::size_t width = dtype_bytes(send.dtype), per_call = elements_per_call(send.dtype);
  const MPI_Datatype type = mpi_type(send.dtype);
  std::vector<MPI_Request> requests;
  std::vector<int> expected;
  const auto for_each_piece = [&](std::span<const std::uint64_t> counts, const auto& piece) {
    std::size_t offset = 0;
    for (int r = 0; r < size_; ++r) {
      const std::size_t count = counts[static_cast<std::size_t>(r)];
      if (r != rank_) {
        in_pieces(count, per_call, [&](std::size_t first, int n) { piece(r, (offset + first) * width, n); });
      }
      offset += count;
    }
  };
  for_each_piece(receive_counts, [&](int from, std::size_t offset, int n) {
    expected.push_back(n);
    check_mpi(MPI_Irecv(at(receive.data, offset), n, type, from, kBulkTag, handle_, &requests.emplace_back()),
              "MPI_Irecv");
  });
  for_each_piece(send_counts, [&](int to, std::size_t offset, int n) {
    check_mpi(MPI_Isend(at(send.data, offset), n, type, to, kBulkTag, handle_, &requests.emplace_back()),
              "MPI_Isend");
  });
  copy_own_part(send, send_counts, receive, receive_counts, rank_);
  std::vector<MPI_Status> statuses(requests.size());
  check_mpi(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), statuses.data()), "MPI_Waitall");
  for (std::size_t i = 0; i < expected.size(); ++i) {
    int got = 0;
    check_mpi(MPI_Get_count(&statuses[i], type, &got), "MPI_Get_count");
    core::internal_check(got == expected[i], fmt::format("rank {} received {} of {} elements from rank {}",
                                                         rank_, got, expected[i], statuses[i].MPI_SOURCE));
  }
}

void MpiBackend::send(ConstBuffer buffer, int peer, int tag) {
  require_host(buffer.memory);
  const auto send_piece = [&](std::size_t first, int n) {
    check_mpi(MPI_Send(at(buffer.data, first * dtype_bytes(buffer.dtype)), n, mpi_type(buffer.dtype), peer,
                       tag, handle_),
              "MPI_Send");
  };
  if (buffer.count == 0 && tag != kBulkTag) return send_piece(0, 0);  // an empty message is a message
  in_pieces(buffer.count, elements_per_call(buffer.dtype), send_piece);
}

void MpiBackend::receive(Buffer buffer, int peer, int tag) {
  require_host(buffer.memory);
  const auto receive_piece = [&](std::size_t first, int n) {
    MPI_Status status;
    check_mpi(MPI_Recv(at(buffer.data, first * dtype_bytes(buffer.dtype)), n, mpi_type(buffer.dtype), peer,
                       tag, handle_, &status),
              "MPI_Recv");
    int got = 0;
    check_mpi(MPI_Get_count(&status, mpi_type(buffer.dtype), &got), "MPI_Get_count");
    core::internal_check(got == n,
                         fmt::format("rank {} received {} of {} elements from rank {}", rank_, got, n, peer));
  };
  if (buffer.count == 0 && tag != kBulkTag) return receive_piece(0, 0);
  in_pieces(buffer.count, elements_per_call(buffer.dtype), receive_piece);
}

std::optional<int> MpiBackend::probe(int tag) {
  int there = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, handle_, &there, &status), "MPI_Iprobe");
  if (there == 0) return std::nullopt;
  return status.MPI_SOURCE;
}

std::unique_ptr<Backend> MpiBackend::duplicate() {
  return std::make_unique<MpiBackend>(duplicate_comm(handle_), limit_);
}

std::unique_ptr<Backend> MpiBackend::split(int color, int key) {
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(handle_, color < 0 ? MPI_UNDEFINED : color, key, &part), "MPI_Comm_split");
  if (part == MPI_COMM_NULL) return nullptr;
  return std::make_unique<MpiBackend>(UniqueMpiComm(part), limit_);
}

void MpiBackend::abort(const std::string& reason) noexcept {
  // MPI cannot wake a rank that waits in a collective; the only way out is the end of the job.
  core::log::error("{}", reason);
  Session::abort(static_cast<int>(core::ExitCode::kInternal));
}

}  // namespace muster::comm
