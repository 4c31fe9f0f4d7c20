// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <optional>

#include "muster/formats/safetensors.h"
#include "training/layout.h"

namespace muster::training {

/// What a trainer keeps for every weight, as its files name it. The last one only where an average is kept.
constexpr std::array<const char*, 4> kStateArrays{"master", "exp_avg", "exp_avg_sq", "average"};
enum class Averages { kNo, kYes };
constexpr std::size_t arrays_of(Averages averages) {
  return kStateArrays.size() - (averages == Averages::kNo ? 1 : 0);
}

/// What all files of one state share.
struct StateHeader {
  std::uint64_t steps = 0;
  LossScaler::State scaler;
  std::string layout;         ///< layout_digest
  std::int64_t elements = 0;  ///< of the whole layout
  int ranks = 1;              ///< files
  Averages averages = Averages::kNo;
};

/// A range of the layout and its values, for each of the arrays that are kept; fp32 on the host.
struct StatePart {
  Range range;
  std::vector<at::Tensor> values;
};

std::string state_file_name(int rank);
/// One safetensors file: the parts one after another, a CRC-32C for each in the metadata. Synced.
void write_state_file(const std::string& path, const StateHeader& header, std::span<const StatePart> parts);

/// The files of all ranks of one state, checked to be one state: as many as they say, of the same update and
/// of the layout, elements and averages asked for, covering the layout once.
class StateFiles {
 public:
  StateFiles(const std::string& folder, const StateHeader& wanted);
  const StateHeader& header() const { return header_; }
  /// Fills `part` from whatever files hold its range; DataError when a CRC does not match.
  void read(const StatePart& part);

 private:
  struct Piece {
    Range range;
    std::size_t file = 0;
    std::array<std::span<const std::byte>, kStateArrays.size()> bytes;
    std::array<std::uint32_t, kStateArrays.size()> crcs{};
    bool is_checked = false;
  };
  void add_file(const std::string& path, int rank);
  void check_cover() const;
  void check(Piece& piece) const;

  StateHeader header_;
  std::vector<formats::Safetensors> files_;
  std::vector<Piece> pieces_;  ///< in the order of the layout
};

}  // namespace muster::training
