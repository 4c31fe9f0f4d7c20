// SPDX-License-Identifier: Apache-2.0
#include "diffusion/guidance.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <vector>

namespace muster::diffusion {

bool is_guided(const PictureRequest& request) {
  return request.guidance > 1;
}

at::Tensor guide(const at::Tensor& output, std::span<const PictureRequest> requests) {
  const auto items = static_cast<std::int64_t>(requests.size());
  std::vector<at::Tensor> out;
  for (std::int64_t i = 0; i < items; ++i) {
    const PictureRequest& request = requests[static_cast<std::size_t>(i)];
    const at::Tensor negative = output[i], text = output[items + i];
    at::Tensor guided = negative + (text - negative) * request.guidance;
    if (request.guidance_rescale > 0) {  // Lin et al., 2023, section 3.4
      const at::Tensor rescaled = guided * (at::std(text) / at::std(guided));
      guided = rescaled * request.guidance_rescale + guided * (1 - request.guidance_rescale);
    }
    out.push_back(guided);
  }
  return at::stack(out);
}

}  // namespace muster::diffusion
