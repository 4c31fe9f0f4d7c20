// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime and NCCL functions that the NCCL backend calls, on host memory and MPI: enough to run the
// backend's own code on a machine without a GPU. Like a non-blocking NCCL it answers "in progress" first, and
// like CUDA "not ready". NCCL calls refuse pointers that did not come from cudaMalloc.
#include "fake_cuda.h"

#include <cuda_runtime_api.h>
#include <mpi.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

struct ncclComm {
  MPI_Comm comm;
  bool in_progress;
};
struct CUstream_st {
  bool busy;
};
struct CUevent_st {};

namespace {

std::map<const char*, std::size_t>& device_blocks() {
  static auto* const blocks = new std::map<const char*, std::size_t>;
  return *blocks;
}

bool on_device(const void* pointer) {
  const auto* address = static_cast<const char*>(pointer);
  auto block = device_blocks().upper_bound(address);
  if (block == device_blocks().begin()) return false;
  --block;
  return address < block->first + block->second;
}

bool in_group = false;
std::vector<MPI_Request> group_requests;

MPI_Datatype mpi_type(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return MPI_UINT8_T;
    case ncclInt32:
      return MPI_INT32_T;
    case ncclUint32:
      return MPI_UINT32_T;
    case ncclInt64:
      return MPI_INT64_T;
    case ncclUint64:
      return MPI_UINT64_T;
    case ncclFloat32:
      return MPI_FLOAT;
    case ncclFloat64:
      return MPI_DOUBLE;
    default:
      return MPI_DATATYPE_NULL;
  }
}

ncclResult_t started(ncclComm_t comm, cudaStream_t stream) {
  comm->in_progress = true;
  stream->busy = true;
  return ncclInProgress;
}

}  // namespace

muster::test::FakeCuda& muster::test::fake_cuda() {
  static auto* const fake = new FakeCuda;
  return *fake;
}

// Names and types are CUDA's and NCCL's.
extern "C" {

cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) {
  return "a CUDA error";
}
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  *pointer = std::malloc(bytes);
  device_blocks()[static_cast<const char*>(*pointer)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  device_blocks().erase(static_cast<const char*>(pointer));
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  *pointer = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st{false};
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (muster::test::fake_cuda().device_hangs) return cudaErrorNotReady;
  if (!stream->busy) return cudaSuccess;
  stream->busy = false;
  return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return cudaSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited" : "an NCCL error";
}
const char* ncclGetLastError(ncclComm_t) {
  return "what NCCL said last";
}
ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id, 7, sizeof *id);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int, ncclUniqueId id, int, ncclConfig_t* config) {
  ncclUniqueId expected;
  ncclGetUniqueId(&expected);
  if (config->blocking != 0 || std::memcmp(&id, &expected, sizeof id) != 0) return ncclInvalidArgument;
  *comm = new ncclComm{MPI_COMM_NULL, true};
  MPI_Comm_dup(MPI_COMM_WORLD, &(*comm)->comm);
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = comm->in_progress ? ncclInProgress : ncclSuccess;
  if (muster::test::fake_cuda().communicator_fails) *state = ncclRemoteError;
  comm->in_progress = false;
  return ncclSuccess;
}
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  MPI_Comm_rank(comm->comm, rank);
  return ncclSuccess;
}
ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  MPI_Comm_size(comm->comm, count);
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  comm->in_progress = true;
  return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  MPI_Comm_free(&comm->comm);
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++muster::test::fake_cuda().aborts;
  muster::test::fake_cuda().aborted_by = std::this_thread::get_id();
  return ncclCommDestroy(comm);
}
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  MPI_Comm out = MPI_COMM_NULL;
  MPI_Comm_split(comm->comm, color == NCCL_SPLIT_NOCOLOR ? MPI_UNDEFINED : color, key, &out);
  *part = out == MPI_COMM_NULL ? nullptr : new ncclComm{out, true};
  comm->in_progress = true;
  return ncclInProgress;
}
ncclResult_t ncclGroupStart() {
  in_group = true;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  in_group = false;
  MPI_Waitall(static_cast<int>(group_requests.size()), group_requests.data(), MPI_STATUSES_IGNORE);
  group_requests.clear();
  return ncclInProgress;
}
ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if (!on_device(send) || send != receive || mpi_type(type) == MPI_DATATYPE_NULL) return ncclInvalidArgument;
  const MPI_Op mpi_op = op == ncclSum ? MPI_SUM : op == ncclMin ? MPI_MIN : MPI_MAX;
  MPI_Allreduce(MPI_IN_PLACE, receive, static_cast<int>(count), mpi_type(type), mpi_op, comm->comm);
  return started(comm, stream);
}
ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  if (!on_device(send) || send != receive) return ncclInvalidArgument;
  MPI_Bcast(receive, static_cast<int>(count), mpi_type(type), root, comm->comm);
  return started(comm, stream);
}
ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  int rank = 0;
  MPI_Comm_rank(comm->comm, &rank);
  if (!on_device(receive) || type != ncclUint8 ||
      send != static_cast<char*>(receive) + static_cast<std::size_t>(rank) * count) {
    return ncclInvalidArgument;
  }
  MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, receive, static_cast<int>(count), MPI_UINT8_T,
                comm->comm);
  return started(comm, stream);
}
ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (!on_device(send)) return ncclInvalidArgument;
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Isend(send, static_cast<int>(count), mpi_type(type), peer, 0, comm->comm, &request);
  if (in_group) {
    group_requests.push_back(request);
  } else {
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  }
  return started(comm, stream);
}
ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (!on_device(receive)) return ncclInvalidArgument;
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Irecv(receive, static_cast<int>(count), mpi_type(type), peer, 0, comm->comm, &request);
  if (in_group) {
    group_requests.push_back(request);
  } else {
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  }
  return started(comm, stream);
}

}  // extern "C"
