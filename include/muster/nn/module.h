// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::nn {

/// A size and the config key it comes from, so that a wrong shape can name the key to look at. A size that no
/// key decides has an empty key.
struct Extent {
  std::int64_t size = 0;
  std::string_view key;  ///< a literal
};

/// A weight: the config decides its shape, loading fills its value, prepare() moves it to where it computes.
struct Parameter {
  std::vector<Extent> shape;
  at::Tensor value;

  std::vector<std::int64_t> sizes() const;
  std::string reason() const;  ///< "intermediate_size=1536, hidden_size=384"
};

/// How the weights of matrix products are kept.
enum class WeightType : std::uint8_t {
  kAsActivations,  ///< in the compute type
  kInt8,           ///< 8 bits, the inputs quantized row by row; needs has_int8_linear()
};

/// Where the weights of products and convolutions are kept.
enum class WeightHome : std::uint8_t {
  kDevice,
  kHost,  ///< copied to the device for every call; the same as kDevice on the CPU
};

/// Where and in what type a model computes.
struct ComputeTarget {
  c10::Device device{c10::DeviceType::CPU};
  c10::ScalarType dtype = c10::ScalarType::Float;
  WeightType weights = WeightType::kAsActivations;
  WeightHome home = WeightHome::kDevice;
};

/// A layer: named parameters and children, spelled as in the checkpoint. Building one allocates no weights,
/// so that the structure alone tells what a checkpoint must hold and how much it is. After load and prepare()
/// it is used as const, by any number of threads.
class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  using Visit = std::function<void(const std::string& name, Parameter& parameter)>;
  /// Every parameter with its full name, in order of registration.
  void visit_parameters(const Visit& visit, const std::string& prefix = "");
  using VisitModule = std::function<void(const std::string& name, Module& module)>;
  /// Every layer below this one with its full name, parents first.
  void visit_modules(const VisitModule& visit, const std::string& prefix = "");
  std::uint64_t parameter_count();
  /// Parents first: a fused layer takes its children's weights, which are then left empty.
  void prepare(const ComputeTarget& target);

 protected:
  Parameter& add_parameter(std::string name, std::vector<Extent> shape);
  void add_child(std::string name, Module& child);
  virtual void on_prepare(const ComputeTarget&) {}
  /// Whether prepare() has run: before it, layers compute on their parameters' values, with a graph.
  bool prepared() const { return prepared_; }

 private:
  bool prepared_ = false;
  std::deque<std::pair<std::string, Parameter>> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
};

}  // namespace muster::nn
