// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace muster::report {

/// Rows of equal length, one behind the other.
struct Rows {
  std::span<const float> values;
  std::size_t columns = 0;
  std::size_t count() const { return columns == 0 ? 0 : values.size() / columns; }
  const float* row(std::size_t i) const { return values.data() + i * columns; }
};

/// A point of the plane for every row.
struct PlanePoint {
  float x = 0, y = 0;
};

/// The first two principal components, the largest coordinate scaled to 1. Orthogonal iteration from a fixed
/// start.
std::vector<PlanePoint> principal_plane(const Rows& rows);

struct TsneConfig {
  float perplexity = 30;
  int iterations = 500;
  int exaggerated = 150;  ///< of them with the neighbours' pull multiplied, which gathers clusters
  float exaggeration = 12;
};

/// Exact t-SNE (van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008) from the principal
/// plane: near rows stay near. O(rows^2) an iteration, so for a few thousand rows. The same rows give the
/// same picture.
std::vector<PlanePoint> tsne_plane(const Rows& rows, const TsneConfig& config = {});

/// The share of rows whose nearest other row has the same label: how well a plane (columns 2) or the whole
/// space keeps labels together.
double neighbour_agreement(const Rows& rows, std::span<const std::size_t> labels);

}  // namespace muster::report
