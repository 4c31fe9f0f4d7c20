// SPDX-License-Identifier: Apache-2.0
// UniPC (Zhao et al., 2023): a multistep predictor, and a corrector of the last step by the next model call.
// Coefficients are floats in the reference's order: differences of lambdas lose digits.
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "diffusion/samplers/solver_levels.h"
#include "muster/core/error.h"

namespace muster::diffusion {
namespace {

/// Solves a small linear system by elimination with row exchanges.
std::vector<float> solve(std::vector<std::vector<float>> a, std::vector<float> b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (std::abs(a[i][k]) > std::abs(a[pivot][k])) pivot = i;
    std::swap(a[k], a[pivot]);
    std::swap(b[k], b[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const float factor = a[i][k] / a[k][k];
      for (std::size_t j = k; j < n; ++j) a[i][j] -= factor * a[k][j];
      b[i] -= factor * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= a[k][j] * b[j];
    b[k] /= a[k][k];
  }
  return b;
}

class UniPc final : public Sampler {
 public:
  UniPc(const SchedulerConfig& config, std::uint32_t steps) : config_(config), levels_(config, steps) {
    times_ = levels_.times();
    if (config.solver_order > 1 && !config.lower_order_final && config.final_sigma == FinalSigma::kZero)
      throw core::ConfigError(
          "the model's scheduler_config.json has lower_order_final: false and final_sigmas_type: zero, with "
          "which "
          "UniPC's last step is not finite; use another sampler");
  }

  at::Tensor step(const at::Tensor& output, const at::Tensor& sample, std::size_t call,
                  const NoiseSource&) override {
    const at::Tensor model = converted(output, sample, levels_.at(call));
    at::Tensor current = sample;
    if (call > 0 && corrects(call - 1)) current = correct(model, call);
    models_.push_front(model);
    if (models_.size() > config_.solver_order) models_.pop_back();
    order_ = std::min(config_.solver_order, static_cast<std::uint32_t>(call + 1));
    if (config_.lower_order_final)
      order_ = std::min(order_, static_cast<std::uint32_t>(levels_.steps() - call));
    if (levels_.at(call).lambda == levels_.at(call + 1).lambda) order_ = 1;  // nothing to divide by
    last_ = current;
    return predict(call);
  }

 private:
  /// A step from one level to the next: the paper's h, B(h), ratios r and right-hand side b.
  struct Equations {
    Level from, to;
    float hh, phi_1, b_h;
    std::vector<float> ratios;               ///< of the older model calls
    std::vector<std::vector<float>> matrix;  ///< [order, order]
    std::vector<float> b;
  };

  bool corrects(std::size_t call) const {
    return std::ranges::find(config_.disable_corrector, static_cast<std::int64_t>(call)) ==
           config_.disable_corrector.end();
  }

  at::Tensor converted(const at::Tensor& output, const at::Tensor& sample, const Level& level) const {
    if (config_.predict_sample) return predicted_picture(config_.prediction, output, sample, level);
    switch (config_.prediction) {
      case Prediction::kSample:
        return (sample - output * level.signal) / level.noise;
      case Prediction::kVelocity:
        return output * level.signal + sample * level.noise;
      case Prediction::kEpsilon:
        break;
    }
    return output;
  }

  /// Of the step that begins at level `from`.
  Equations equations(std::size_t from) const {
    Equations e{levels_.at(from), levels_.at(from + 1), 0, 0, 0, {}, {}, {}};
    const float h = e.to.lambda - e.from.lambda;
    for (std::size_t i = 1; i < order_; ++i)
      e.ratios.push_back((levels_.at(from - i).lambda - e.from.lambda) / h);
    e.hh = config_.predict_sample ? -h : h;
    e.phi_1 = std::expm1(e.hh);
    e.b_h = config_.solver_type == SolverType::kBh1 ? e.hh : std::expm1(e.hh);
    float phi_k = e.phi_1 / e.hh - 1.0F, factorial = 1;
    for (std::uint32_t i = 1; i <= order_; ++i) {
      std::vector<float> row;
      for (const float ratio : e.ratios) row.push_back(std::pow(ratio, static_cast<float>(i - 1)));
      row.push_back(1);
      e.matrix.push_back(std::move(row));
      e.b.push_back(phi_k * factorial / e.b_h);
      factorial *= static_cast<float>(i + 1);
      phi_k = phi_k / e.hh - 1.0F / factorial;
    }
    return e;
  }

  /// What a step does without the differences between model calls, and the factor of those.
  at::Tensor base(const Equations& e, const at::Tensor& newest) const {
    return config_.predict_sample ? last_ * (e.to.noise / e.from.noise) - newest * (e.to.signal * e.phi_1)
                                  : last_ * (e.to.signal / e.from.signal) - newest * (e.to.noise * e.phi_1);
  }
  float factor(const Equations& e) const {
    return (config_.predict_sample ? e.to.signal : e.to.noise) * e.b_h;
  }

  /// sum of weights[i] * (older model call i - the newest) / ratio i; undefined for none.
  at::Tensor weighted(const Equations& e, const std::vector<float>& weights) const {
    at::Tensor sum;
    for (std::size_t i = 0; i < e.ratios.size(); ++i) {
      const at::Tensor term = (models_[i + 1] - models_[0]) / e.ratios[i] * weights[i];
      sum = sum.defined() ? sum + term : term;
    }
    return sum;
  }

  at::Tensor predict(std::size_t call) const {
    const Equations e = equations(call);
    const at::Tensor next = base(e, models_[0]);
    if (order_ == 1) return next;
    std::vector<float> weights{0.5F};
    if (order_ > 2) {
      auto matrix = e.matrix;
      matrix.pop_back();
      for (auto& row : matrix) row.pop_back();
      weights = solve(std::move(matrix), {e.b.begin(), e.b.end() - 1});
    }
    return next - weighted(e, weights) * factor(e);
  }

  at::Tensor correct(const at::Tensor& model, std::size_t call) const {
    const Equations e = equations(call - 1);
    const auto weights = order_ == 1 ? std::vector<float>{0.5F} : solve(e.matrix, e.b);
    at::Tensor change = (model - models_[0]) * weights.back();
    if (order_ > 1) change = weighted(e, weights) + change;
    return base(e, models_[0]) - change * factor(e);
  }

  SchedulerConfig config_;
  SolverLevels levels_;
  std::uint32_t order_ = 1;        // of the last step
  std::deque<at::Tensor> models_;  // converted outputs, newest first
  at::Tensor last_;                // the sample that the last step began with
};

}  // namespace

std::unique_ptr<Sampler> make_unipc(const SchedulerConfig& config, std::uint32_t steps) {
  return std::make_unique<UniPc>(config, steps);
}

}  // namespace muster::diffusion
