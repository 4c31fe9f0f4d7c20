// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_backend.h"
#include "comm/staged_backend.h"
#include "muster/comm/mpi_handle.h"

namespace muster::comm {

Communicator make_mpi_communicator(TransferLimit limit, DeviceCopies copies) {
  std::unique_ptr<Backend> backend = std::make_unique<MpiBackend>(duplicate_comm(MPI_COMM_WORLD), limit);
  if (copies.to_host != nullptr) backend = std::make_unique<StagedBackend>(std::move(backend), copies);
  return Communicator(std::move(backend));
}

const void* mpi_handle(Communicator& communicator) {
  Backend* backend = &communicator.backend();
  if (auto* staged = dynamic_cast<StagedBackend*>(backend)) backend = &staged->inner();
  const auto* mpi = dynamic_cast<const MpiBackend*>(backend);
  return mpi == nullptr ? nullptr : mpi->handle();
}

}  // namespace muster::comm
