// SPDX-License-Identifier: Apache-2.0
// A cut of the small classification task, and the pipeline on it with the tiny encoder.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "system.h"

namespace muster::test {

/// A file of configs/demo/debtags_small.
std::string small_task(const std::string& file);
/// scratch/data, in the layout Amazon_products: so many documents, and all 40 classes.
void write_task(const Scratch& scratch, std::size_t train, std::size_t test);
/// muster teleclass of scratch/data to scratch/out: four reproducible steps of training in float32, one
/// worker a rank.
Command teleclass(const Scratch& scratch, const Command& more = {});
std::vector<std::vector<std::string>> read_csv_file(const std::string& path);

}  // namespace muster::test
