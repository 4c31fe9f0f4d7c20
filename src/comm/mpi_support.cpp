// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_support.h"

#include <fmt/format.h>

namespace muster::comm {
namespace {

bool is_finalized() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized != 0;
}

}  // namespace

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw core::CommError(
      fmt::format("{} failed: {}; the job cannot go on, run the same command again", call, text));
}

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return MPI_UINT8_T;
    case DType::kI32:
      return MPI_INT32_T;
    case DType::kU32:
      return MPI_UINT32_T;
    case DType::kI64:
      return MPI_INT64_T;
    case DType::kU64:
      return MPI_UINT64_T;
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kF16:
    case DType::kBF16:
      return MPI_UINT16_T;
  }
  throw core::InternalError("unknown DType");
}

int MpiCommTraits::close(MPI_Comm comm) noexcept {
  return is_finalized() ? 0 : MPI_Comm_free(&comm);
}

int MpiOpTraits::close(MPI_Op op) noexcept {
  return is_finalized() ? 0 : MPI_Op_free(&op);
}

UniqueMpiComm duplicate_comm(MPI_Comm comm) {
  MPI_Comm copy = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(comm, &copy), "MPI_Comm_dup");
  return UniqueMpiComm(copy);
}

}  // namespace muster::comm
