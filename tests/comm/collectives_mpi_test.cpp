// SPDX-License-Identifier: Apache-2.0
// Every call x type x transfer limit x memory against a serial reference, on however many ranks the program
// runs.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "muster/comm/mpi_handle.h"
#include "support/collective_checks.h"
#include "support/mpi_test.h"

namespace muster::comm {
namespace {

// A "device" whose memory is host memory in disguise: every byte is inverted, so that code which touches it
// directly fails.
int disguise(void* to, const void* from, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; ++i)
    static_cast<unsigned char*>(to)[i] = ~static_cast<const unsigned char*>(from)[i];
  return 0;
}

int plain(void* to, const void* from, std::uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return 0;
}

constexpr test::TestMemory kHost{Memory::kHost, std::malloc, std::free, {plain, plain}};
constexpr test::TestMemory kDevice{Memory::kDevice, std::malloc, std::free, {disguise, disguise}};

struct Mode {
  const char* name;
  std::size_t limit_bytes;
  const test::TestMemory& memory;
};

constexpr Mode kModes[] = {
    {"OneCall", std::size_t{1} << 30, kHost},
    {"Limit1kB", 1000, kHost},
    {"LimitOfOneByte", 1, kHost},
    {"DeviceMemory", std::size_t{1} << 30, kDevice},
};

template <class T>
class CommCollectives : public testing::Test {
 protected:
  template <class Check>
  void on_all_modes(const Check& check) {
    for (const Mode& mode : kModes) {
      SCOPED_TRACE(mode.name);
      const DeviceCopies copies = mode.memory.kind == Memory::kDevice ? mode.memory.copies : DeviceCopies{};
      Communicator communicator = make_mpi_communicator({mode.limit_bytes}, copies);
      check(communicator, mode.memory);
    }
  }
};

TYPED_TEST_SUITE(CommCollectives, test::CollectiveTypes);

TYPED_TEST(CommCollectives, Broadcast) {
  this->on_all_modes(test::check_broadcast<TypeParam>);
}
TYPED_TEST(CommCollectives, AllReduce) {
  this->on_all_modes(test::check_all_reduce<TypeParam>);
}
TYPED_TEST(CommCollectives, AllGather) {
  this->on_all_modes(test::check_all_gather<TypeParam>);
}
TYPED_TEST(CommCollectives, Gatherv) {
  this->on_all_modes(test::check_gatherv<TypeParam>);
}
TYPED_TEST(CommCollectives, Scatterv) {
  this->on_all_modes(test::check_scatterv<TypeParam>);
}
TYPED_TEST(CommCollectives, AllToAllv) {
  this->on_all_modes(test::check_all_to_allv<TypeParam>);
}
TYPED_TEST(CommCollectives, SendAndReceiveRoundTheRing) {
  this->on_all_modes(test::check_ring<TypeParam>);
}

TEST(CommGroups, SplitsKeepOrderAndLimit) {
  Communicator world = make_mpi_communicator({1000});
  const int rank = world.rank();
  Communicator half = world.split(rank % 2, -rank);
  const int members = (world.size() + (rank % 2 == 0 ? 1 : 0)) / 2;
  ASSERT_EQ(half.size(), members);
  EXPECT_EQ(half.rank(), members - 1 - rank / 2);  // the key turns the order round
  std::vector<std::int64_t> big(5000, rank);
  half.broadcast(Buffer(big), 0);
  EXPECT_EQ(big, std::vector<std::int64_t>(5000, rank % 2 + 2 * (members - 1)));

  Communicator only_root = world.split(rank == 0 ? 0 : -1, 0);
  EXPECT_EQ(static_cast<bool>(only_root), rank == 0);
}

TEST(CommGroups, DuplicateDoesNotMixMessages) {
  Communicator first = make_mpi_communicator();
  if (first.size() == 1) GTEST_SKIP() << "needs two ranks";
  Communicator second = first.duplicate();
  std::int32_t a = 1, b = 2, got = 0;
  if (first.rank() == 0) {
    first.send(ConstBuffer(std::span<const std::int32_t>(&a, 1)), 1, 9);
    second.send(ConstBuffer(std::span<const std::int32_t>(&b, 1)), 1, 9);
  } else if (first.rank() == 1) {
    second.receive(Buffer(std::span(&got, 1)), 0, 9);
    EXPECT_EQ(got, 2);
    EXPECT_TRUE(first.probe(9).has_value());
    EXPECT_FALSE(first.probe(8).has_value());
    first.receive(Buffer(std::span(&got, 1)), 0, 9);
    EXPECT_EQ(got, 1);
    EXPECT_FALSE(first.probe(9).has_value());
  }
  first.barrier();
}

TEST(CommGroups, TheMpiHandleIsThere) {
  Communicator plain = make_mpi_communicator();
  Communicator staged = make_mpi_communicator({}, {disguise, disguise});
  EXPECT_NE(mpi_handle(plain), nullptr);
  EXPECT_NE(mpi_handle(staged), nullptr);
  EXPECT_EQ(plain.backend_name(), "mpi");
}

TEST(CommStrings, GatherScatterBroadcast) {
  Communicator world = make_mpi_communicator({100});
  const auto text = [](int rank) {
    return std::string(static_cast<std::size_t>(rank % 2 == 0 ? 700 * rank : 0),
                       static_cast<char>('a' + rank));
  };
  std::vector<std::string> expected;
  for (int r = 0; r < world.size(); ++r) expected.push_back(text(r));
  const int last = world.size() - 1;

  EXPECT_EQ(world.gather_strings(text(world.rank()), last),
            world.rank() == last ? expected : std::vector<std::string>());
  EXPECT_EQ(world.scatter_strings(world.rank() == last ? expected : std::vector<std::string>(), last),
            text(world.rank()));
  EXPECT_EQ(world.broadcast_string(world.rank() == last ? std::string("x\0y", 3) : "ignored", last),
            std::string("x\0y", 3));
  EXPECT_EQ(world.broadcast_string("", 0), "");
}

TEST(CommErrors, DeviceMemoryNeedsCopies) {
  Communicator world = make_mpi_communicator();
  float value = 0;
  EXPECT_THROW(world.broadcast(Buffer(&value, 1, DType::kF32, Memory::kDevice)), core::InternalError);
}

TEST(CommErrors, AWrongRankIsACommErrorThatNamesTheCall) {
  Communicator world = make_mpi_communicator();
  std::uint8_t byte = 0;
  try {
    world.send(ConstBuffer(std::span<const std::uint8_t>(&byte, 1)), world.size(), 0);
    FAIL() << "no error";
  } catch (const core::CommError& error) {
    EXPECT_NE(std::string(error.what()).find("MPI_Send failed: MPI_ERR_RANK"), std::string::npos)
        << error.what();
  }
}

TEST(CommErrors, AllToAllvChecksItsCounts) {
  Communicator world = make_mpi_communicator();
  const std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()), 2);
  std::vector<std::int32_t> all(counts.size() * 2), short_by_one(all.size() - 1);
  EXPECT_THROW(world.all_to_allv(ConstBuffer(all), counts, Buffer(short_by_one), counts),
               core::InternalError);
  EXPECT_THROW(world.all_to_allv(ConstBuffer(all), {}, Buffer(all), counts), core::InternalError);
}

TEST(CommErrors, CountsThatDisagreeAreNoticedBeforeTheTransfer) {
  Communicator world = make_mpi_communicator();
  const std::vector<std::uint64_t> counts(static_cast<std::size_t>(world.size()), 2);
  std::vector<std::int32_t> all(counts.size() * 2), mine(3);
  EXPECT_THROW(world.scatterv(ConstBuffer(all), counts, Buffer(mine), 0), core::InternalError);
}

}  // namespace
}  // namespace muster::comm
