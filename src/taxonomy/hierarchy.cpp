// SPDX-License-Identifier: Apache-2.0
#include "muster/taxonomy/hierarchy.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/core/problem_list.h"
#include "muster/core/strings.h"

namespace muster::taxonomy {
namespace {

// A cycle of more edges is cut in the middle.
constexpr std::size_t kMostSteps = 20;
// 100,000 classes of a real taxonomy have a few million (class, ancestor) pairs; a file that makes one long
// chain of them would have billions.
constexpr std::uint64_t kMostAncestorPairs = std::uint64_t{1} << 26;

void sort_unique(std::vector<ClassId>& ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

std::size_t index(ClassId id) {
  return static_cast<std::size_t>(id);
}

std::vector<Edge> accepted_edges(std::size_t classes, std::span<const Edge> edges,
                                 core::ProblemList& problems) {
  std::vector<Edge> accepted;
  accepted.reserve(edges.size());
  const auto known = [classes](ClassId id) { return id >= 0 && index(id) < classes; };
  for (const auto& edge : edges) {
    for (const ClassId id : {edge.parent, edge.child}) {
      if (!known(id))
        problems.add(fmt::format("line {}: there is no class {}; {} classes have ids 0 to {}", edge.line, id,
                                 classes, static_cast<std::int64_t>(classes) - 1));
      if (edge.parent == edge.child) break;
    }
    if (!known(edge.parent) || !known(edge.child)) continue;
    if (edge.parent == edge.child)
      problems.add(fmt::format("line {}: class {} is its own parent", edge.line, edge.parent));
    else
      accepted.push_back(edge);
  }
  // By (parent, child), the first line of doubled edges first.
  std::stable_sort(accepted.begin(), accepted.end(), [](const Edge& a, const Edge& b) {
    return a.parent != b.parent ? a.parent < b.parent : a.child < b.child;
  });
  const auto same = [](const Edge& a, const Edge& b) { return a.parent == b.parent && a.child == b.child; };
  accepted.erase(std::unique(accepted.begin(), accepted.end(), same), accepted.end());
  return accepted;
}

// Parents before children (Kahn, 1962); classes on or below a cycle are missing.
std::vector<ClassId> top_down(const std::vector<std::vector<ClassId>>& parents,
                              const std::vector<std::vector<ClassId>>& children) {
  std::vector<std::size_t> waits_for(parents.size());
  std::vector<ClassId> order;
  order.reserve(parents.size());
  for (std::size_t i = 0; i < parents.size(); ++i) {
    waits_for[i] = parents[i].size();
    if (waits_for[i] == 0) order.push_back(static_cast<ClassId>(i));
  }
  for (std::size_t next = 0; next < order.size(); ++next)
    for (const ClassId child : children[index(order[next])])
      if (--waits_for[index(child)] == 0) order.push_back(child);
  return order;
}

std::string spell_cycle(const std::vector<ClassId>& cycle, std::span<const Edge> edges) {
  std::vector<std::string> steps;
  for (std::size_t i = 0; i < cycle.size(); ++i) {
    if (cycle.size() > kMostSteps && i == kMostSteps / 2) {
      steps.push_back(fmt::format("... {} more ...", cycle.size() - kMostSteps));
      i = cycle.size() - kMostSteps / 2;
    }
    const ClassId parent = cycle[i], child = cycle[(i + 1) % cycle.size()];
    const auto edge =
        std::lower_bound(edges.begin(), edges.end(), Edge{parent, child}, [](const Edge& a, const Edge& b) {
          return a.parent != b.parent ? a.parent < b.parent : a.child < b.child;
        });
    steps.push_back(fmt::format("{} above {} (line {})", parent, child, edge->line));
  }
  return fmt::format("a cycle, of which one edge must go: {}", core::join(steps, ", "));
}

// Every class that top_down() left out has a parent that it left out too, so the way up ends in a cycle.
// Downwards, from its smallest class.
std::vector<ClassId> find_cycle(const std::vector<std::vector<ClassId>>& parents,
                                const std::vector<ClassId>& order) {
  std::vector<bool> left_out(parents.size(), true), passed(parents.size());
  for (const ClassId id : order) left_out[index(id)] = false;
  const auto step = [&](ClassId id) {
    return *std::find_if(parents[index(id)].begin(), parents[index(id)].end(),
                         [&](ClassId parent) { return left_out[index(parent)]; });
  };
  auto id = static_cast<ClassId>(std::find(left_out.begin(), left_out.end(), true) - left_out.begin());
  for (; !passed[index(id)]; id = step(id)) passed[index(id)] = true;
  std::vector<ClassId> cycle{id};
  for (ClassId above = step(id); above != id; above = step(above)) cycle.push_back(above);
  std::reverse(cycle.begin(), cycle.end());
  std::rotate(cycle.begin(), std::min_element(cycle.begin(), cycle.end()), cycle.end());
  return cycle;
}

// Cuts one cycle after the other, so that all places to repair are named at once.
void report_cycles(std::vector<std::vector<ClassId>> parents, std::vector<std::vector<ClassId>> children,
                   std::span<const Edge> edges, core::ProblemList& problems) {
  while (!problems.full()) {
    const auto order = top_down(parents, children);
    if (order.size() == parents.size()) return;
    const auto cycle = find_cycle(parents, order);
    problems.add(spell_cycle(cycle, edges));
    std::erase(parents[index(cycle.front())], cycle.back());
    std::erase(children[index(cycle.back())], cycle.front());
  }
}

}  // namespace

Hierarchy::Hierarchy(std::size_t classes) : Hierarchy(classes, {}, "") {}

Hierarchy::Hierarchy(std::size_t classes, std::span<const Edge> edges, const std::string& source)
    : parents_(classes), children_(classes), ancestors_(classes), descendants_(classes), depth_(classes) {
  core::ProblemList problems(source);
  const auto accepted = accepted_edges(classes, edges, problems);
  for (const auto& edge : accepted) {
    parents_[index(edge.child)].push_back(edge.parent);
    children_[index(edge.parent)].push_back(edge.child);
  }
  const auto order = top_down(parents_, children_);
  if (order.size() < classes) report_cycles(parents_, children_, accepted, problems);
  problems.throw_if_any();

  std::uint64_t pairs = 0;
  for (const ClassId id : order) {
    auto& above = ancestors_[index(id)];
    for (const ClassId parent : parents_[index(id)]) {
      above.push_back(parent);
      above.insert(above.end(), ancestors_[index(parent)].begin(), ancestors_[index(parent)].end());
      depth_[index(id)] = std::max(depth_[index(id)], depth_[index(parent)] + 1);
    }
    sort_unique(above);
    pairs += above.size();
    if (pairs > kMostAncestorPairs)
      throw core::DataError(
          fmt::format("{}: class {} is {} levels deep, and all classes together have more than {} ancestors; "
                      "is this a hierarchy of classes?",
                      source, id, depth_[index(id)], kMostAncestorPairs));
  }
  for (std::size_t i = 0; i < classes; ++i) {
    const auto id = static_cast<ClassId>(i);
    if (parents_[i].empty()) roots_.push_back(id);
    for (const ClassId above : ancestors_[i]) descendants_[index(above)].push_back(id);
  }
}

std::vector<ClassId> Hierarchy::closure(std::span<const ClassId> classes) const {
  std::vector<ClassId> all(classes.begin(), classes.end());
  for (const ClassId id : classes) all.insert(all.end(), ancestors(id).begin(), ancestors(id).end());
  sort_unique(all);
  return all;
}

}  // namespace muster::taxonomy
