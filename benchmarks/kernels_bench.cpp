// SPDX-License-Identifier: Apache-2.0
// Our own CPU kernels beside LibTorch's for the same work, on one thread: the shapes of a layer of MiniLM-L6
// and mpnet.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <string>

#include "bench.h"
#include "muster/nn/attention.h"
#include "muster/nn/backend.h"
#include "muster/nn/linear.h"
#include "muster/nn/norm.h"
#include "muster/nn/tiles.h"
#include "nn/kernels/cpu_kernels.h"

namespace muster::bench {
namespace {

constexpr auto kBf16 = c10::ScalarType::BFloat16;
constexpr auto kFp32 = c10::ScalarType::Float;

struct Product {
  std::int64_t in, out;
};
constexpr Product kProducts[] = {{384, 1152}, {384, 1536}, {1536, 384},
                                 {768, 2304}, {768, 3072}, {3072, 768}};

void report_flops(benchmark::State& state, double flops) {
  state.counters["flop/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

// The whole layer of muster: own kernel, oneDNN or ATen, whatever this machine and type get.
void linear(benchmark::State& state, const Product& product, const nn::ComputeTarget& target,
            nn::Activation activation) {
  nn::use_one_thread();
  const nn::PackedLinear layer(at::randn({product.out, product.in}).to(target.dtype),
                               at::randn({product.out}).to(target.dtype), activation, target);
  const at::Tensor x = at::randn({nn::kTileRows, product.in}).to(target.dtype);
  for (auto _ : state) benchmark::DoNotOptimize(layer.forward(x).const_data_ptr());
  report_flops(state, 2.0 * static_cast<double>(nn::kTileRows * product.in * product.out));
}

void library_linear(benchmark::State& state, const Product& product) {
  nn::use_one_thread();
  const at::Tensor weight = at::randn({product.out, product.in}).to(kBf16),
                   bias = at::randn({product.out}).to(kBf16);
  const at::Tensor x = at::randn({nn::kTileRows, product.in}).to(kBf16);
  for (auto _ : state) benchmark::DoNotOptimize(at::linear(x, weight, bias).const_data_ptr());
  report_flops(state, 2.0 * static_cast<double>(nn::kTileRows * product.in * product.out));
}

// A bias in the form that only LibTorch takes makes attend() use LibTorch's kernel.
void attention(benchmark::State& state, std::int64_t length, const nn::HeadShape& shape, bool by_library) {
  nn::use_one_thread();
  const std::int64_t columns = shape.heads * shape.padded_width(kBf16);
  const at::Tensor qkv = at::randn({length, 3 * columns}).to(kBf16);
  at::Tensor context = at::empty({length, columns}, kBf16);
  const nn::AttentionBias bias = by_library
                                     ? nn::AttentionBias(at::zeros({1, shape.heads, length, length}, kFp32))
                                     : nn::AttentionBias();
  const nn::SequenceRun run{0, 1, length};
  for (auto _ : state) {
    nn::attend(qkv, {&run, 1}, shape, bias, context);
    benchmark::DoNotOptimize(context.const_data_ptr());
  }
  report_flops(state, 4.0 * static_cast<double>(length * length * columns));
}

void layer_norm(benchmark::State& state, std::int64_t width) {
  nn::use_one_thread();
  nn::LayerNorm norm({width, ""}, 1e-5);
  norm.visit_parameters([&](const std::string&, nn::Parameter& p) { p.value = at::ones({width}); });
  norm.prepare({c10::DeviceType::CPU, kBf16});
  const at::Tensor x = at::randn({nn::kTileRows, width}).to(kBf16);
  for (auto _ : state) benchmark::DoNotOptimize(norm.forward(x).const_data_ptr());
  state.SetItemsProcessed(state.iterations() * nn::kTileRows);
}

void register_products(const Product& product) {
  const std::string shape = std::to_string(product.in) + "x" + std::to_string(product.out);
  const auto add = [&](const std::string& name, const nn::ComputeTarget& target, nn::Activation activation) {
    benchmark::RegisterBenchmark(("nn/linear_" + name + "/" + shape).c_str(), linear, product, target,
                                 activation);
  };
  add("bf16", {c10::DeviceType::CPU, kBf16}, nn::Activation::kIdentity);
  add("bf16_gelu", {c10::DeviceType::CPU, kBf16}, nn::Activation::kGelu);
  if (nn::has_int8_linear())
    add("int8", {c10::DeviceType::CPU, kBf16, nn::WeightType::kInt8}, nn::Activation::kIdentity);
  add("fp32", {}, nn::Activation::kIdentity);
  benchmark::RegisterBenchmark(("nn/linear_bf16_library/" + shape).c_str(), library_linear, product);
}

}  // namespace

void register_kernel_benchmarks() {
  for (const Product& product : kProducts) register_products(product);
  for (const std::int64_t length : {32, 88, 256, 512})
    for (const nn::HeadShape& shape : {nn::HeadShape{12, 32}, nn::HeadShape{12, 64}})
      for (const bool by_library : {false, true}) {
        const std::string name = by_library ? "nn/attention_bf16_library/" : "nn/attention_bf16/";
        benchmark::RegisterBenchmark(
            (name + std::to_string(length) + "x" + std::to_string(shape.width)).c_str(), attention, length,
            shape, by_library);
      }
  for (const std::int64_t width : {384, 768})
    benchmark::RegisterBenchmark(("nn/layer_norm_bf16/" + std::to_string(width)).c_str(), layer_norm, width);
}

}  // namespace muster::bench
