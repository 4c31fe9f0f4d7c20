// SPDX-License-Identifier: Apache-2.0
#include "muster/report/projection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "muster/core/error.h"
#include "muster/core/philox.h"

namespace muster::report {
namespace {

constexpr int kPlaneIterations = 30;
constexpr float kFirstSpread = 1e-4F;  // of the start: so near together that all can still pass each other
constexpr float kEarlyMomentum = 0.5F, kLateMomentum = 0.8F;
constexpr float kSmallestGain = 0.01F;
constexpr float kSlowestRate = 50;
constexpr std::size_t kLanes = 8;  // sums run in so many parts, which compilers turn into vector registers

using Lanes = std::array<float, kLanes>;

float sum_of(const Lanes& lanes) {
  return std::accumulate(lanes.begin(), lanes.end(), 0.0F);
}

float squared_distance(const float* a, const float* b, std::size_t n) {
  Lanes lanes{};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t l = 0; l < kLanes; ++l) {
      const float d = a[i + l] - b[i + l];
      lanes[l] += d * d;
    }
  }
  float sum = sum_of(lanes);
  for (; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

float dot(const float* a, const float* b, std::size_t n) {
  Lanes lanes{};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  float sum = sum_of(lanes);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<float> centered(const Rows& rows) {
  std::vector<double> mean(rows.columns, 0.0);
  for (std::size_t i = 0; i < rows.count(); ++i) {
    for (std::size_t c = 0; c < rows.columns; ++c) mean[c] += rows.row(i)[c];
  }
  std::vector<float> out(rows.values.begin(), rows.values.end());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] -= static_cast<float>(mean[i % rows.columns] / static_cast<double>(rows.count()));
  return out;
}

void scale_to_one(std::vector<PlanePoint>& points) {
  float largest = 0;
  for (const auto& p : points) largest = std::max({largest, std::abs(p.x), std::abs(p.y)});
  if (largest <= 0) return;
  for (auto& p : points) p = {p.x / largest, p.y / largest};
}

/// How strongly rows attract each other: for each row its nearest ones, the pull of both directions added.
struct Attraction {
  std::vector<std::size_t> begin;  ///< row i has the entries [begin[i], begin[i + 1])
  std::vector<std::uint32_t> row;
  std::vector<float> pull;
};

/// The width of a row's Gaussian is the one under which its neighbours have the wanted perplexity (2 to the
/// entropy); `distances` are squared, the result sums to 1.
std::vector<float> conditional_pull(const std::vector<float>& distances, float perplexity) {
  const float nearest = *std::min_element(distances.begin(), distances.end());
  const double wanted = std::log(static_cast<double>(perplexity));
  double beta = 1, low = 0, high = INFINITY;
  std::vector<float> pull(distances.size());
  for (int step = 0; step < 60; ++step) {
    double sum = 0, weighted = 0;
    for (std::size_t i = 0; i < pull.size(); ++i) {
      const double d = static_cast<double>(distances[i] - nearest), p = std::exp(-beta * d);
      pull[i] = static_cast<float>(p);
      sum += p;
      weighted += p * d;
    }
    for (auto& p : pull) p = static_cast<float>(p / sum);
    const double entropy = std::log(sum) + beta * weighted / sum;
    if (std::abs(entropy - wanted) < 1e-4) break;
    (entropy > wanted ? low : high) = beta;
    beta = std::isinf(high) ? beta * 2 : (low + high) / 2;
  }
  return pull;
}

struct Neighbour {
  float distance;
  std::uint32_t row;
  bool operator<(const Neighbour& other) const {
    return distance != other.distance ? distance < other.distance : row < other.row;
  }
};

std::vector<float> all_distances(const Rows& rows) {
  const std::size_t n = rows.count();
  std::vector<float> out(n * n, 0.0F);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j)
      out[i * n + j] = out[j * n + i] = squared_distance(rows.row(i), rows.row(j), rows.columns);
  }
  return out;
}

Attraction attraction_of(const Rows& rows, float perplexity) {
  const std::size_t n = rows.count();
  // Beyond three times the perplexity a neighbour's share is nothing.
  const auto count = std::min<std::size_t>(n - 1, static_cast<std::size_t>(3 * perplexity));
  const auto distances = all_distances(rows);
  std::vector<std::vector<std::pair<std::uint32_t, float>>> pulls(n);
  std::vector<Neighbour> near;
  for (std::size_t i = 0; i < n; ++i) {
    near.clear();
    for (std::size_t j = 0; j < n; ++j) {
      if (j != i) near.push_back({distances[i * n + j], static_cast<std::uint32_t>(j)});
    }
    std::nth_element(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(count) - 1, near.end());
    std::vector<float> nearest;
    for (std::size_t k = 0; k < count; ++k) nearest.push_back(near[k].distance);
    const auto pull = conditional_pull(nearest, std::min(perplexity, static_cast<float>(count)));
    for (std::size_t k = 0; k < count; ++k) {
      const float half = pull[k] / (2 * static_cast<float>(n));
      pulls[i].emplace_back(near[k].row, half);
      pulls[near[k].row].emplace_back(static_cast<std::uint32_t>(i), half);
    }
  }
  Attraction all{.begin = {0}, .row = {}, .pull = {}};
  for (auto& row : pulls) {
    std::sort(row.begin(), row.end());
    for (const auto& [other, pull] : row) {
      all.row.push_back(other);
      all.pull.push_back(pull);
    }
    all.begin.push_back(all.row.size());
  }
  return all;
}

/// The moving points of t-SNE. Coordinates are apart, so that the inner loop over all pairs runs in vector
/// registers.
class Tsne {
 public:
  Tsne(const std::vector<PlanePoint>& start, Attraction attraction, const TsneConfig& config)
      : n_(start.size()),
        attraction_(std::move(attraction)),
        config_(config),
        rate_(std::max(static_cast<float>(n_) / config.exaggeration / 4, kSlowestRate)),
        x_(n_),
        y_(n_),
        force_x_(n_),
        force_y_(n_),
        step_x_(n_),
        step_y_(n_),
        gain_x_(n_, 1.0F),
        gain_y_(n_, 1.0F) {
    for (std::size_t i = 0; i < n_; ++i) {
      x_[i] = start[i].x * kFirstSpread;
      y_[i] = start[i].y * kFirstSpread;
    }
  }

  std::vector<PlanePoint> run() {
    for (int iteration = 0; iteration < config_.iterations; ++iteration) {
      const bool early = iteration < config_.exaggerated;
      repel();
      attract(early ? config_.exaggeration : 1.0F);
      const float momentum = early ? kEarlyMomentum : kLateMomentum;
      move(x_, force_x_, step_x_, gain_x_, momentum);
      move(y_, force_y_, step_y_, gain_y_, momentum);
    }
    std::vector<PlanePoint> points(n_);
    for (std::size_t i = 0; i < n_; ++i) points[i] = {x_[i], y_[i]};
    return points;
  }

 private:
  /// Every pair once; what pushes i also pushes j the other way.
  void repel() {
    std::fill(force_x_.begin(), force_x_.end(), 0.0F);
    std::fill(force_y_.begin(), force_y_.end(), 0.0F);
    double all = 0;
    for (std::size_t i = 0; i < n_; ++i) all += repel_row(i);
    const auto scale = static_cast<float>(1 / std::max(2 * all, 1e-30));
    for (std::size_t i = 0; i < n_; ++i) {
      force_x_[i] *= scale;
      force_y_[i] *= scale;
    }
  }

  float repel_row(std::size_t i) {
    const float xi = x_[i], yi = y_[i];
    const float *x = x_.data(), *y = y_.data();
    float *fx = force_x_.data(), *fy = force_y_.data();
    Lanes nearness{}, push_x{}, push_y{};
    std::size_t j = 0;
    for (; j + kLanes <= i; j += kLanes) {
      for (std::size_t l = 0; l < kLanes; ++l) {
        const float dx = xi - x[j + l], dy = yi - y[j + l];
        const float q = 1 / (1 + dx * dx + dy * dy), q2 = q * q;
        nearness[l] += q;
        push_x[l] += q2 * dx;
        push_y[l] += q2 * dy;
        fx[j + l] -= q2 * dx;
        fy[j + l] -= q2 * dy;
      }
    }
    for (std::size_t l = 0; j < i; ++j, ++l) {
      const float dx = xi - x[j], dy = yi - y[j];
      const float q = 1 / (1 + dx * dx + dy * dy), q2 = q * q;
      nearness[l] += q;
      push_x[l] += q2 * dx;
      push_y[l] += q2 * dy;
      fx[j] -= q2 * dx;
      fy[j] -= q2 * dy;
    }
    fx[i] += sum_of(push_x);
    fy[i] += sum_of(push_y);
    return sum_of(nearness);
  }

  void attract(float exaggeration) {
    for (std::size_t i = 0; i < n_; ++i) {
      float pull_x = 0, pull_y = 0;
      for (std::size_t k = attraction_.begin[i]; k < attraction_.begin[i + 1]; ++k) {
        const std::size_t j = attraction_.row[k];
        const float dx = x_[i] - x_[j], dy = y_[i] - y_[j];
        const float weight = exaggeration * attraction_.pull[k] / (1 + dx * dx + dy * dy);
        pull_x += weight * dx;
        pull_y += weight * dy;
      }
      force_x_[i] -= pull_x;
      force_y_[i] -= pull_y;
    }
  }

  // Gains as in the authors' own program: faster where the direction lasts, slower where it turns.
  void move(std::vector<float>& at, const std::vector<float>& force, std::vector<float>& step,
            std::vector<float>& gain, float momentum) const {
    double mean = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      const bool lasts = (force[i] > 0) == (step[i] > 0);
      gain[i] = std::max(lasts ? gain[i] + 0.2F : gain[i] * 0.8F, kSmallestGain);
      step[i] = momentum * step[i] + rate_ * gain[i] * 4 * force[i];
      at[i] += step[i];
      mean += at[i];
    }
    mean /= static_cast<double>(n_);
    for (auto& a : at) a -= static_cast<float>(mean);
  }

  std::size_t n_;
  Attraction attraction_;
  TsneConfig config_;
  float rate_;
  std::vector<float> x_, y_, force_x_, force_y_, step_x_, step_y_, gain_x_, gain_y_;
};

void check(const Rows& rows) {
  core::internal_check(rows.columns > 0 && rows.values.size() % rows.columns == 0, "rows of unequal length");
}

}  // namespace

std::vector<PlanePoint> principal_plane(const Rows& rows) {
  check(rows);
  const std::size_t n = rows.count(), d = rows.columns;
  const auto values = centered(rows);
  std::vector<float> first(d), second(d), next_first(d), next_second(d);
  core::Philox random(0, 0);
  for (auto* direction : {&first, &second}) {
    for (auto& v : *direction) v = random.next_uniform() - 0.5F;
  }
  const auto normalize = [](std::vector<float>& v) {
    const float length = std::sqrt(dot(v.data(), v.data(), v.size()));
    for (auto& x : v) x = length > 0 ? x / length : 0;
  };
  std::vector<PlanePoint> points(n);
  for (int iteration = 0; iteration <= kPlaneIterations; ++iteration) {
    normalize(first);
    const float along = dot(first.data(), second.data(), d);
    for (std::size_t c = 0; c < d; ++c) second[c] -= along * first[c];
    normalize(second);
    std::fill(next_first.begin(), next_first.end(), 0.0F);
    std::fill(next_second.begin(), next_second.end(), 0.0F);
    for (std::size_t i = 0; i < n; ++i) {
      const float* row = values.data() + i * d;
      points[i] = {dot(row, first.data(), d), dot(row, second.data(), d)};
      for (std::size_t c = 0; c < d; ++c) {
        next_first[c] += points[i].x * row[c];
        next_second[c] += points[i].y * row[c];
      }
    }
    if (iteration < kPlaneIterations) {
      first.swap(next_first);
      second.swap(next_second);
    }
  }
  scale_to_one(points);
  return points;
}

std::vector<PlanePoint> tsne_plane(const Rows& rows, const TsneConfig& config) {
  check(rows);
  auto points = principal_plane(rows);
  const std::size_t n = rows.count();
  if (n < 5) return points;  // nothing to arrange
  TsneConfig fitting = config;
  fitting.perplexity = std::min(config.perplexity, static_cast<float>(n - 1) / 3);
  points = Tsne(points, attraction_of(rows, fitting.perplexity), fitting).run();
  scale_to_one(points);
  return points;
}

double neighbour_agreement(const Rows& rows, std::span<const std::size_t> labels) {
  check(rows);
  const std::size_t n = rows.count();
  core::internal_check(labels.size() == n, "a label for every row");
  std::size_t agree = 0;
  for (std::size_t i = 0; i < n; ++i) {
    Neighbour best{INFINITY, 0};
    for (std::size_t j = 0; j < n; ++j) {
      if (j != i)
        best = std::min(best, Neighbour{squared_distance(rows.row(i), rows.row(j), rows.columns),
                                        static_cast<std::uint32_t>(j)});
    }
    agree += n > 1 && labels[best.row] == labels[i];
  }
  return n == 0 ? 0 : static_cast<double>(agree) / static_cast<double>(n);
}

}  // namespace muster::report
