// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "muster/phases/item_phase.h"
#include "muster/report/report.h"
#include "phases/report/job_record.h"

namespace muster::phases {

/// The report of one job; the phase adds its own sections where it is finished.
report::Report job_report(const PhaseInfo& phase, const JobRecord& record, const ReportSource& source);
/// Two jobs beside each other.
report::Report compared_report(const PhaseInfo& phase, const JobRecord& first, const JobRecord& second);

/// Parts of both.
report::Timeline timeline_of(const StartRecord& start, const PhaseInfo& phase);
/// Items (or their length) a second of the whole job, the times between its starts left out; the marks are
/// the starts.
report::Curves throughput_of(const std::vector<StartRecord>& starts, const std::string& name,
                             std::uint64_t WorkSpan::*what);
report::Series throughput_series(const std::vector<StartRecord>& starts, const std::string& name,
                                 std::uint64_t WorkSpan::*what);
/// Where a worker's time went: a bar a rank.
std::vector<std::string> time_parts();
report::Bar time_bar(const RankActivity& rank);
/// The largest busy time of a rank's worker divided by the mean.
double balance_of(const StartRecord& start);
/// Items a second of the job's computing parts.
double rate_of(const JobRecord& record);
report::Section lengths_section(const JobRecord& record, const PhaseInfo& phase);
report::Section memory_section(const JobRecord& record);
std::string rank_name(const RankActivity& rank);

}  // namespace muster::phases
