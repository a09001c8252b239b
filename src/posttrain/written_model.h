// Whether a model directory that was written is the model that was trained.
#pragma once

#include <filesystem>

#include "posttrain/starting_model.h"

namespace flyover::posttrain {

/// Opens the directory as any program would and compares it with what the stage was trained with: weights that fit the
/// configuration, the tokenizer, and, where there is a chat template, the text that it makes of a conversation and the
/// tokens that end generation. Throws Error naming what differs.
void check_written_model(const StartingModel& start, const std::filesystem::path& directory);

}  // namespace flyover::posttrain
