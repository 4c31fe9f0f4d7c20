// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "muster/phases/item_phase.h"
#include "phases/labels/class_files.h"
#include "phases/train/epoch_plan.h"
#include "phases/train/training_set.h"

namespace muster::phases {

/// classes.csv: how many documents taught each class, and how many of those held out have it.
std::string class_table(const LabelSpace& space, const TrainingSet& documents, const DocumentList& training);

/// Sections of report.html: loss, learning rate, loss scale, evaluations, class balance, memory.
std::vector<report::Section> train_sections(const ReportSource& source);

}  // namespace muster::phases
