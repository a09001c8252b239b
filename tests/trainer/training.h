// A small training run for tests.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "devices/cpu/device.h"
#include "optim/make_optimizer.h"
#include "support/model_fixture.h"
#include "trainer/trainer.h"

namespace flyover::trainer {

using tensor::DType;

inline data::Dataset make_dataset() {
  const base::Random random(4, base::RandomPurpose::kTest);
  data::Dataset dataset;
  dataset.source_names = {"generated"};
  dataset.source_weights = {1.0};
  std::uint64_t position = 0;
  for (std::int64_t row = 1; row <= 20; ++row) {
    data::Sequence sequence;
    const std::uint64_t length = 4 + random.below(position++, 20);
    for (std::uint64_t i = 0; i < length; ++i) {
      sequence.tokens.push_back(static_cast<std::int32_t>(random.below(position++, 11)));
      sequence.trained.push_back(i > 1 ? 1 : 0);
    }
    sequence.row = row;
    dataset.sequences.push_back(sequence);
  }
  return dataset;
}

/// `max_steps` 0 = to the end of the epochs.
inline data::BatchOptions batch_options(std::int64_t max_steps) {
  data::BatchOptions options;
  options.max_steps = max_steps;
  options.seed = 3;
  options.batch_tokens = 60;
  options.epochs = 2;
  return options;
}

inline AuxiliaryOptions auxiliary_options() {
  return {.further_weight = 0.1, .balance_coefficient = 1e-3, .indexer_coefficient = 1e-2, .bias_update_speed = 1e-2};
}

inline TrainerOptions trainer_options() {
  TrainerOptions options;
  options.step.auxiliary = auxiliary_options();
  options.stage = "test";
  options.learning_rate = 1e-2;
  options.micro_batch_tokens = 32;
  options.checkpoint_every = 3;
  options.schedule.total_steps = 10;
  return options;
}

/// One process's worth of training.
struct Training {
  Training(std::unique_ptr<devices::Device> device, DType dtype, const std::filesystem::path& path,
           std::int64_t max_steps = 0, const std::string& family = "llama_tied",
           optim::OptimizerKind kind = optim::OptimizerKind::kAdamW)
      : machine(std::move(device)),
        model(tests::tiny_model(family)),
        dataset(make_dataset()),
        plan(dataset, batch_options(max_steps)),
        checkpoints(path / "checkpoints"),
        metrics_path(path / "metrics.jsonl"),
        progress(output) {
    for (autograd::Parameter& parameter : model->parameters().all()) {
      parameter.trainable = is_reached(parameter.spec, auxiliary_options());
    }
    model->parameters().allocate(machine.stream, dtype, autograd::ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.2, 1);
    optimizer = optim::make_optimizer(
        machine.stream, model->parameters(),
        std::vector<optim::ParameterSettings>(model->parameters().all().size(), {1e-2, 0.1}), {kind, {}});
  }
  ~Training() { std::fclose(output); }

  Outcome run(bool resume, TrainerOptions options = trainer_options()) {
    const std::vector<std::int64_t> saved = resume ? checkpoints.steps() : std::vector<std::int64_t>();
    MetricsFile metrics(metrics_path, "test", saved.empty() ? 0 : saved.back());
    Trainer trainer(
        {*model, machine.stream, *optimizer, plan, validation, checkpoints, metrics, nullptr, progress, interruption},
        options);
    if (!saved.empty()) {
      trainer.resume_from(saved.back());
    }
    const Outcome outcome = trainer.run();
    last = trainer.info();
    return outcome;
  }

  /// Every bit of the weights and the optimizer.
  std::vector<std::vector<double>> state() {
    std::vector<std::vector<double>> result;
    for (const auto& parameter : model->parameters().all()) {
      if (parameter.trainable || parameter.spec.role == autograd::ParameterRole::kBalance) {
        result.push_back(tests::read_doubles(machine.stream, parameter.value));
      }
      if (parameter.master.defined()) {
        result.push_back(tests::read_doubles(machine.stream, parameter.master));
      }
    }
    for (const auto& entry : optimizer->state()) {
      result.push_back(tests::read_doubles(machine.stream, entry.tensor));
    }
    return result;
  }

  tests::Machine machine;
  std::unique_ptr<models::LanguageModel> model;
  data::Dataset dataset;
  const data::Dataset* validation = &dataset;
  data::BatchPlan plan;
  CheckpointDirectory checkpoints;
  std::filesystem::path metrics_path;
  std::FILE* output = std::fopen("/dev/null", "w");
  Progress progress;
  InterruptionWatch interruption;
  std::unique_ptr<optim::Optimizer> optimizer;
  CheckpointInfo last;
};

inline std::unique_ptr<devices::Device> cpu_device() {
  return devices::cpu::make_device(2, devices::cpu::available_instruction_sets().back());
}

}  // namespace flyover::trainer
