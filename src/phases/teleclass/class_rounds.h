// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "muster/comm/communicator.h"
#include "phases/teleclass/unit_rows.h"
#include "phases/train/worker_team.h"

namespace muster::phases {

/// A vector for each class, of unit length.
struct ClassVectors {
  std::size_t classes = 0, dimensions = 0;
  std::vector<float> values;
  std::span<const float> of(std::size_t id) const {
    return std::span(values).subspan(id * dimensions, dimensions);
  }
};

/// Cosines of some of a rank's documents to all classes, [count, classes].
struct ScoreBlock {
  int worker = 0;
  std::size_t first = 0, count = 0;  ///< rows of the rank
  std::span<const float> scores;
  std::size_t classes = 0;
  std::span<const float> of(std::size_t i) const { return scores.subspan(i * classes, classes); }
};

/// Calls `use` for all blocks of the rows, from all workers at once. A row's scores depend on the row and the
/// vectors alone.
void for_each_score_block(const UnitRows& rows, const ClassVectors& vectors, WorkerTeam& team,
                          const std::function<void(const ScoreBlock&)>& use);

/// A document and its cosine to a class.
struct Hit {
  std::uint64_t row = 0;
  float score = 0;
  std::uint32_t unused = 0;  ///< travels as bytes
};

/// The best documents of each class; of equal ones the smaller row. What is kept does not depend on the order
/// in which they come.
class BestDocuments {
 public:
  BestDocuments(std::size_t classes, std::size_t most) : most_(most), hits_(classes) {}
  void add(std::size_t id, const Hit& hit);
  void add(const BestDocuments& other);
  /// Collective: those of all ranks, on every rank.
  void merge(comm::Communicator& world);
  const std::vector<Hit>& of(std::size_t id) const { return hits_[id]; }  ///< in no order
  std::size_t classes() const { return hits_.size(); }

 private:
  std::size_t most_;
  std::vector<std::vector<Hit>> hits_;  ///< heaps, the worst first
};

/// Collective: the `most` best usable documents of each class.
BestDocuments best_documents(comm::Communicator& world, const UnitRows& rows, const ClassVectors& vectors,
                             std::size_t most, WorkerTeam& team);
/// Collective: each class vector becomes the mean of its documents; one without documents stays as it is.
/// Sums are exact (in fixed point), so that the result does not depend on which rank holds what.
void move_to_means(comm::Communicator& world, const UnitRows& rows, const BestDocuments& best,
                   ClassVectors& vectors);

}  // namespace muster::phases
