// SPDX-License-Identifier: Apache-2.0
// Each collective against a serial reference, for any backend, type and kind of memory.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "muster/comm/communicator.h"

namespace muster::test {

using comm::Buffer;
using comm::Communicator;
using comm::ConstBuffer;
using comm::Op;

/// Memory that a backend is to work on, and how a test fills and reads it.
struct TestMemory {
  comm::Memory kind;
  void* (*allocate)(std::size_t bytes);
  void (*release)(void* pointer);
  comm::DeviceCopies copies;
};

/// Typed values in such memory.
template <class T>
class Data {
 public:
  Data(const std::vector<T>& values, const TestMemory& memory)
      : memory_(memory),
        count_(values.size()),
        data_(memory.allocate(std::max<std::size_t>(1, count_ * sizeof(T))), memory.release) {
    memory_.copies.to_device(data_.get(), values.data(), count_ * sizeof(T));
  }
  operator Buffer() { return {data_.get(), count_, comm::DTypeOf<T>::value, memory_.kind}; }
  operator ConstBuffer() { return {data_.get(), count_, comm::DTypeOf<T>::value, memory_.kind}; }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    memory_.copies.to_host(out.data(), data_.get(), count_ * sizeof(T));
    return out;
  }

 private:
  const TestMemory& memory_;
  std::size_t count_;
  std::unique_ptr<void, void (*)(void*)> data_;
};

template <class T>
std::vector<T> part(int rank, std::size_t count) {
  std::vector<T> out(count);
  // Small values: sums are exact in every type.
  for (std::size_t i = 0; i < count; ++i)
    out[i] = static_cast<T>((i * 7 + static_cast<std::size_t>(rank) * 13 + 1) % 31);
  return out;
}

/// Uneven counts, some of them zero.
inline std::vector<std::uint64_t> uneven_counts(int ranks) {
  std::vector<std::uint64_t> counts;
  for (int r = 0; r < ranks; ++r)
    counts.push_back(r % 3 == 1 ? 0 : static_cast<std::uint64_t>(300 + 117 * r));
  return counts;
}

template <class T>
std::vector<T> parts(std::span<const std::uint64_t> counts) {
  std::vector<T> all;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    const auto one = part<T>(static_cast<int>(r), counts[r]);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

template <class T>
void check_broadcast(Communicator& world, const TestMemory& memory) {
  for (int root = 0; root < world.size(); ++root) {
    Data<T> data(part<T>(world.rank(), 777), memory);
    world.broadcast(data, root);
    EXPECT_EQ(data.values(), part<T>(root, 777)) << "root " << root;
  }
}

template <class T>
void check_all_reduce(Communicator& world, const TestMemory& memory) {
  for (const Op op : {Op::kSum, Op::kMin, Op::kMax}) {
    Data<T> data(part<T>(world.rank(), 777), memory);
    world.all_reduce(data, op);
    auto expected = part<T>(0, 777);
    for (int r = 1; r < world.size(); ++r) {
      std::ranges::transform(expected, part<T>(r, 777), expected.begin(), [op](T a, T b) -> T {
        return op == Op::kSum ? static_cast<T>(a + b) : op == Op::kMin ? std::min(a, b) : std::max(a, b);
      });
    }
    EXPECT_EQ(data.values(), expected) << "op " << static_cast<int>(op);
  }
}

template <class T>
void check_all_gather(Communicator& world, const TestMemory& memory) {
  const std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()), 333);
  Data<T> mine(part<T>(world.rank(), 333), memory);
  Data<T> all(std::vector<T>(333 * counts.size()), memory);
  world.all_gather(mine, all);
  EXPECT_EQ(all.values(), parts<T>(counts));

  // In place: what a rank sends lies where it will be received.
  auto others = parts<T>(counts);
  for (std::size_t i = 0; i < others.size(); ++i)
    if (static_cast<int>(i / 333) != world.rank()) others[i] = T{};
  Data<T> shared(others, memory);
  const Buffer whole = shared;
  const std::size_t own = static_cast<std::size_t>(world.rank()) * 333 * sizeof(T);
  world.all_gather(ConstBuffer(static_cast<std::byte*>(whole.data) + own, 333, whole.dtype, whole.memory),
                   whole);
  EXPECT_EQ(shared.values(), parts<T>(counts)) << "in place";
}

template <class T>
void check_gatherv(Communicator& world, const TestMemory& memory) {
  const auto counts = uneven_counts(world.size());
  for (int root = 0; root < world.size(); ++root) {
    const bool here = world.rank() == root;
    const auto expected = here ? parts<T>(counts) : std::vector<T>();
    Data<T> mine(part<T>(world.rank(), counts[static_cast<std::size_t>(world.rank())]), memory);
    Data<T> all(std::vector<T>(expected.size()), memory);
    world.gatherv(mine, all, here ? counts : std::vector<std::uint64_t>(), root);
    EXPECT_EQ(all.values(), expected) << "root " << root;
  }
}

template <class T>
void check_scatterv(Communicator& world, const TestMemory& memory) {
  const auto counts = uneven_counts(world.size());
  const std::uint64_t own = counts[static_cast<std::size_t>(world.rank())];
  for (int root = 0; root < world.size(); ++root) {
    const bool here = world.rank() == root;
    Data<T> all(here ? parts<T>(counts) : std::vector<T>(), memory);
    Data<T> mine(std::vector<T>(own), memory);
    world.scatterv(all, here ? counts : std::vector<std::uint64_t>(), mine, root);
    EXPECT_EQ(mine.values(), part<T>(world.rank(), own)) << "root " << root;
  }
}

/// Every pair has a count of its own, some none; what a rank gives another is told apart from all else.
template <class T>
void check_all_to_allv(Communicator& world, const TestMemory& memory) {
  const int ranks = world.size(), rank = world.rank();
  const auto count = [](int from, int to) {
    return (from + 2 * to) % 4 == 1 ? std::uint64_t{0}
                                    : static_cast<std::uint64_t>(300 + 117 * from + 31 * to);
  };
  std::vector<std::uint64_t> send_counts, receive_counts;
  std::vector<T> sent, expected;
  const auto append = [](std::vector<T>& all, const std::vector<T>& one) {
    all.insert(all.end(), one.begin(), one.end());
  };
  for (int r = 0; r < ranks; ++r) {
    send_counts.push_back(count(rank, r));
    receive_counts.push_back(count(r, rank));
    append(sent, part<T>(rank * ranks + r, send_counts.back()));
    append(expected, part<T>(r * ranks + rank, receive_counts.back()));
  }
  Data<T> send(sent, memory), receive(std::vector<T>(expected.size()), memory);
  for (int i = 0; i < 3; ++i) {  // a rank that is done early does not disturb the others' last call
    world.all_to_allv(send, send_counts, receive, receive_counts);
    EXPECT_EQ(receive.values(), expected);
  }
}

template <class T>
void check_ring(Communicator& world, const TestMemory& memory) {
  if (world.size() == 1) return;
  const int next = (world.rank() + 1) % world.size(),
            previous = (world.rank() + world.size() - 1) % world.size();
  for (const std::size_t count : {std::size_t{0}, std::size_t{777}}) {
    Data<T> mine(part<T>(world.rank(), count), memory), theirs(std::vector<T>(count), memory);
    // Rank 0 begins, so that no pair waits for each other to receive.
    if (world.rank() == 0) world.send(mine, next, 5);
    world.receive(theirs, previous, 5);
    if (world.rank() != 0) world.send(mine, next, 5);
    EXPECT_EQ(theirs.values(), part<T>(previous, count));
  }
}

using CollectiveTypes =
    testing::Types<std::uint8_t, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t, float, double>;

}  // namespace muster::test
