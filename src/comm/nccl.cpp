// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/nccl.h"

#include <fmt/format.h>

#include "comm/nccl_library.h"
#include "muster/core/shared_library.h"

namespace muster::comm {
namespace {

struct NcclFunctions {
  NcclUniqueIdFunction* unique_id = nullptr;
  NcclCreateFunction* create = nullptr;
};

NcclFunctions open_nccl() {
  std::string why;
  const auto library = core::SharedLibrary::open(kCudaLibrary, &why);
  if (!library) {
    throw core::CommError(fmt::format(
        "backend 'nccl' needs {}, which cannot be opened: {}; use run.backend: mpi", kCudaLibrary, why));
  }
  const NcclFunctions functions{library->function<NcclUniqueIdFunction>(kNcclUniqueIdSymbol),
                                library->function<NcclCreateFunction>(kNcclCreateSymbol)};
  if (functions.unique_id == nullptr || functions.create == nullptr) {
    throw core::CommError(
        fmt::format("{} is of another version than this program; install both from one build", kCudaLibrary));
  }
  return functions;
}

}  // namespace

std::string nccl_version() {
  std::string why;
  const auto library = core::SharedLibrary::open(kCudaLibrary, &why);
  const auto version = library ? library->function<NcclVersionFunction>(kNcclVersionSymbol) : nullptr;
  if (version == nullptr) return "";
  const int number = version();
  return fmt::format("NCCL {}.{}.{}", number / 10000, number % 10000 / 100, number % 100);
}

std::unique_ptr<Backend> make_nccl_backend(Communicator& bootstrap, const NcclConfig& config) {
  NcclSetup setup{{}, bootstrap.rank(), bootstrap.size(), config};
  NcclFunctions functions;
  // Everyone first says whether it can, so that nobody waits in NCCL for a rank that cannot.
  collectively(bootstrap, [&] {
    functions = open_nccl();
    if (bootstrap.is_root()) functions.unique_id(&setup.id);
  });
  bootstrap.broadcast(Buffer(std::span<std::byte>(setup.id)));
  return std::unique_ptr<Backend>(functions.create(&setup));
}

}  // namespace muster::comm
