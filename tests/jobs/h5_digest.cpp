// SPDX-License-Identifier: Apache-2.0
// Prints one SHA-256 over what an embeddings.h5 holds for each document (ids, vectors, token counts,
// truncation), for scripts that compare jobs: the file itself also carries times and the command.
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "muster/core/digest.h"
#include "muster/io/hdf5_results.h"

namespace {

template <class T>
void add(muster::core::Sha256& digest, const std::vector<T>& values) {
  digest.update(std::as_bytes(std::span(values)));
}

std::string digest_of(const std::string& path) {
  const muster::io::H5Reader file(path);
  const auto rows = file.shape("/embeddings").at(0);
  muster::core::Sha256 digest;
  add(digest, file.read_rows("/embeddings", 0, rows));
  add(digest, file.read_i32("/n_tokens", 0, rows));
  add(digest, file.read_u8("/truncated", 0, rows));
  for (const auto& id : file.read_strings("/ids", 0, rows))
    digest.update(std::string_view(id.c_str(), id.size() + 1));
  return fmt::format("{} rows {}", rows, digest.finish_hex());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: h5_digest embeddings.h5\n");
    return 2;
  }
  try {
    fmt::print("{}\n", digest_of(argv[1]));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "h5_digest: {}\n", error.what());
    return 3;
  }
}
