// SPDX-License-Identifier: Apache-2.0
#include "diffusion/unet_rows.h"

#include <ATen/Functions.h>

#include <vector>

namespace muster::diffusion {
namespace {

at::Tensor rows_of(const at::Tensor& tensor, std::int64_t first, std::int64_t count) {
  return tensor.defined() ? tensor.narrow(0, first, count) : tensor;
}

bool equal_rows(const ConditionRows& rows, std::int64_t a, std::int64_t b) {
  const ConditionRows first = rows.narrow(a, 1), second = rows.narrow(b, 1);
  const auto equal = [](const at::Tensor& x, const at::Tensor& y) { return !x.defined() || at::equal(x, y); };
  return equal(first.hidden, second.hidden) && equal(first.text_embeds, second.text_embeds) &&
         equal(first.time_ids, second.time_ids);
}

}  // namespace

ConditionRows ConditionRows::narrow(std::int64_t first, std::int64_t count) const {
  return {rows_of(hidden, first, count), rows_of(text_embeds, first, count), rows_of(time_ids, first, count)};
}

LocalUNetRows::LocalUNetRows(std::shared_ptr<const models::UNet2D> unet, const ConditionRows& rows)
    : unet_(std::move(unet)) {
  std::vector<models::UNetCondition> conditions;
  for (std::int64_t i = 0; i < rows.rows(); ++i) {
    if (i > 0 && equal_rows(rows, i - 1, i)) {  // most negative prompts are
      conditions.push_back(conditions.back());
      continue;
    }
    const ConditionRows row = rows.narrow(i, 1);
    conditions.push_back(unet_->condition(row.hidden, {row.text_embeds, row.time_ids}));
  }
  condition_ = models::UNetCondition::join(conditions);
}

at::Tensor LocalUNetRows::forward(const at::Tensor& latents, float time) {
  const at::Tensor times = at::full({latents.size(0)}, time, latents.options());
  return unet_->forward(latents, times, condition_).contiguous();
}

}  // namespace muster::diffusion
