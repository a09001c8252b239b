// A run as one page that needs nothing else: curves, scores, samples, recipe.
#pragma once

#include <filesystem>

namespace flyover::report {

/// Writes report.html into the run directory from what is there (metrics.jsonl, evaluation.json, recipe.yaml,
/// model/config.json) and returns its path; also while the run goes on. Throws Error if it is not a run directory, or
/// for a file that cannot be understood.
std::filesystem::path write_report(const std::filesystem::path& run_directory);

}  // namespace flyover::report
