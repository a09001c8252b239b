// The tape itself, with operations that write down when they are called.
#include "autograd/tape.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"

namespace flyover::autograd {
namespace {

using testing::ElementsAre;
using Log = std::vector<std::string>;

/// Hands the gradient on to all its inputs.
class Probe : public Operation {
 public:
  Probe(std::string name, int inputs, Log& log) : name_(std::move(name)), inputs_(inputs), log_(log) {}
  std::string_view name() const override { return name_; }
  void backward_inputs(BackwardPass& pass) override {
    log_.push_back("inputs " + name_);
    for (int i = 0; i < inputs_; ++i) {
      if (pass.needs(i)) {
        pass.pass_input_gradient(i, pass.output_gradient());
      }
    }
  }
  void backward_weights(BackwardPass&) override { log_.push_back("weights " + name_); }

 protected:
  std::string name_;
  int inputs_;
  Log& log_;
};

class TapeTest : public testing::Test {
 protected:
  TapeTest() : machine_(devices::reference::make_device()), stream_(machine_.stream) {}

  Tensor numbers(const std::vector<float>& values) {
    return stream_.upload(values, {1, static_cast<std::int64_t>(values.size())});
  }
  std::vector<double> read(const Tensor& tensor) { return tests::read_doubles(stream_, tensor); }
  /// A probe whose output has the value of its first input.
  Variable probe(Tape& tape, const std::string& name, std::initializer_list<Variable> inputs) {
    Tensor output = stream_.convert(inputs.begin()->value, DType::kF32);
    return tape.record(std::make_unique<Probe>(name, static_cast<int>(inputs.size()), log_), std::move(output), inputs);
  }

  tests::Machine machine_;
  tensor::Stream& stream_;
  ParameterSet parameters_;
  Log log_;
};

TEST_F(TapeTest, BackwardPassesCountForThePartThatTheForwardPassRanIn) {
  for (const auto when : {WeightGradients::kWithInputs, WeightGradients::kLater}) {
    Tape tape(stream_, parameters_, {});
    const Variable x = tape.leaf(numbers({1, 2}));
    Variable a, b;
    {
      const tensor::PartScope scope(stream_, tensor::Part::kAttention);
      a = probe(tape, "a", {x, x});  // its backward pass adds two gradients
    }
    {
      const tensor::PartScope scope(stream_, tensor::Part::kOutput);
      b = probe(tape, "b", {a});
    }
    stream_.reset_statistics();
    tape.backward(b, numbers({1, 1}), when);
    tape.run_weight_gradients();
    EXPECT_EQ(stream_.statistics(tensor::Part::kAttention, kernels::kernel_id<kernels::Add>).launches, 1);
    EXPECT_EQ(stream_.statistics(kernels::kernel_id<kernels::Add>).launches, 1);
    EXPECT_EQ(stream_.part(), tensor::Part::kOther);
  }
}

TEST_F(TapeTest, OperationsRunBackwardsBothHalvesTogether) {
  Tape tape(stream_, parameters_, {});
  const Variable x = tape.leaf(numbers({1, 2}));
  const Variable y = probe(tape, "c", {probe(tape, "b", {probe(tape, "a", {x})})});
  tape.backward(y, numbers({3, 5}));
  EXPECT_THAT(log_, ElementsAre("inputs c", "weights c", "inputs b", "weights b", "inputs a", "weights a"));
  EXPECT_EQ(read(tape.gradient_of(x)), (std::vector<double>{3, 5}));
}

TEST_F(TapeTest, PostponedWeightGradientsRunOnceAndWhenAsked) {
  Tape tape(stream_, parameters_, {});
  const Variable x = tape.leaf(numbers({1, 2}));
  const Variable y = probe(tape, "b", {probe(tape, "a", {x})});
  tape.backward(y, numbers({3, 5}), WeightGradients::kLater);
  EXPECT_THAT(log_, ElementsAre("inputs b", "inputs a"));
  EXPECT_EQ(read(tape.gradient_of(x)), (std::vector<double>{3, 5}));
  log_.clear();
  tape.run_weight_gradients();
  EXPECT_THAT(log_, ElementsAre("weights b", "weights a"));
  log_.clear();
  tape.run_weight_gradients();
  EXPECT_THAT(log_, ElementsAre());
}

TEST_F(TapeTest, ALossThatIsItsOwnSeedGetsBothHalvesToo) {
  for (const auto when : {WeightGradients::kWithInputs, WeightGradients::kLater}) {
    log_.clear();
    class Loss final : public Probe {
     public:
      using Probe::Probe;
      bool has_own_seed() const override { return true; }
      void backward_inputs(BackwardPass& pass) override {
        log_.push_back("inputs loss");
        EXPECT_FALSE(pass.output_gradient().defined());
        const auto target = pass.input_gradient(0);
        pass.stream().launch(kernels::Fill{target.view, 7.0});
      }
    };
    Tape tape(stream_, parameters_, {});
    const Variable x = tape.leaf(numbers({1, 2}));
    const Variable y = tape.record(std::make_unique<Loss>("loss", 1, log_), numbers({0}), {probe(tape, "a", {x})});
    tape.backward(y, {}, when);
    tape.run_weight_gradients();
    EXPECT_EQ(read(tape.gradient_of(x)), (std::vector<double>{7, 7}));
    if (when == WeightGradients::kWithInputs) {
      EXPECT_THAT(log_, ElementsAre("inputs loss", "weights loss", "inputs a", "weights a"));
    } else {
      EXPECT_THAT(log_, ElementsAre("inputs loss", "inputs a", "weights loss", "weights a"));
    }
  }
}

TEST_F(TapeTest, GradientsOfAVariableThatIsUsedTwiceAdd) {
  Tape tape(stream_, parameters_, {});
  const Variable x = tape.leaf(numbers({1, 2}));
  const Variable a = probe(tape, "a", {x});
  const Variable sum = probe(tape, "sum", {a, x});           // x + x
  const Variable more = probe(tape, "more", {sum, a, sum});  // 2 sum + a
  const Tensor seed = numbers({1, 10});
  tape.backward(more, seed);
  // d more / d x = 2 * 2 + 1.
  EXPECT_EQ(read(tape.gradient_of(x)), (std::vector<double>{5, 50}));
  EXPECT_EQ(read(seed), (std::vector<double>{1, 10})) << "a gradient that is shared must not be added to in place";
}

TEST_F(TapeTest, WhatIsNotOnTheWayToTheOutputIsLeftAlone) {
  Tape tape(stream_, parameters_, {});
  const Variable x = tape.leaf(numbers({1})), other = tape.leaf(numbers({1}));
  const Variable unused = probe(tape, "unused", {other});
  const Variable constant{numbers({2}), -1};
  const Variable y = probe(tape, "y", {x, constant});
  probe(tape, "behind the output", {y});
  tape.backward(y, numbers({1}));
  EXPECT_THAT(log_, ElementsAre("inputs y", "weights y"));
  EXPECT_FALSE(tape.gradient_of(other).defined());
  EXPECT_FALSE(tape.gradient_of(unused).defined());
  EXPECT_THROW(tape.gradient_of(constant), base::InternalError);
  EXPECT_THROW(tape.backward(constant, numbers({1})), base::InternalError);
}

TEST_F(TapeTest, ATapeThatDoesNotRecordKeepsNothing) {
  Tape tape(stream_, parameters_, {false, RecomputePolicy::kNone, nullptr});
  const std::uint64_t before = machine_.allocator.statistics().current;
  Variable x = tape.leaf(numbers({1, 2}));
  Variable y = probe(tape, "a", {x});
  EXPECT_EQ(x.node, -1);
  EXPECT_EQ(y.node, -1);
  tape.save(x);
  x = y = Variable();
  EXPECT_EQ(machine_.allocator.statistics().current, before);
}

TEST_F(TapeTest, SavedTensorsGoAsSoonAsTheirOperationIsDone) {
  /// Saves its input, and looks at the memory in use when it runs.
  class Saver final : public Probe {
   public:
    Saver(std::string name, Log& log, Saved saved, const tensor::Allocator& allocator, std::vector<std::uint64_t>& use)
        : Probe(std::move(name), 1, log), saved_(std::move(saved)), allocator_(allocator), use_(use) {}
    void backward_inputs(BackwardPass& pass) override {
      EXPECT_TRUE(pass.get(saved_).defined());
      use_.push_back(allocator_.statistics().current);
      Probe::backward_inputs(pass);
    }

   private:
    Saved saved_;
    const tensor::Allocator& allocator_;
    std::vector<std::uint64_t>& use_;
  };
  std::vector<std::uint64_t> use;
  Tape tape(stream_, parameters_, {});
  Variable x = tape.leaf(stream_.zeros({1, 1024}, DType::kF32));
  for (int i = 0; i < 4; ++i) {
    Tensor output = stream_.convert(x.value, DType::kF32);
    x = tape.record(std::make_unique<Saver>("saver", log_, tape.save(x), machine_.allocator, use), std::move(output),
                    {x});
  }
  x.value = Tensor();
  tape.backward(x, stream_.zeros({1, 1024}, DType::kF32));
  ASSERT_EQ(use.size(), 4u);
  for (std::size_t i = 1; i < use.size(); ++i) {
    EXPECT_EQ(use[i], use[i - 1] - 4096) << i;
  }
}

/// Doubles its input, which it saves; can do so again.
class Cheap final : public Operation {
 public:
  Cheap(Saved x, Log& log) : x_(std::move(x)), log_(log) {}
  std::string_view name() const override { return "cheap"; }
  bool is_cheap() const override { return true; }
  static Tensor twice(tensor::Stream& stream, const Tensor& x) {
    Tensor y = stream.empty(x.shape(), x.dtype());
    stream.launch(kernels::Add{x.view(), x.view(), y.view()});
    return y;
  }
  Tensor recompute(BackwardPass& pass) override {
    log_.push_back("recompute");
    return twice(pass.stream(), pass.get(x_));
  }
  void backward_inputs(BackwardPass& pass) override {
    pass.pass_input_gradient(0, twice(pass.stream(), pass.output_gradient()));
  }

 private:
  Saved x_;
  Log& log_;
};

/// Checks in its backward pass that it sees what it saved.
class Consumer final : public Operation {
 public:
  Consumer(Saved saved, std::vector<double> expected) : saved_(std::move(saved)), expected_(std::move(expected)) {}
  std::string_view name() const override { return "consumer"; }
  void backward_inputs(BackwardPass& pass) override {
    EXPECT_EQ(tests::read_doubles(pass.stream(), pass.get(saved_)), expected_);
    pass.pass_input_gradient(0, pass.output_gradient());
  }
  void backward_weights(BackwardPass& pass) override {
    EXPECT_EQ(tests::read_doubles(pass.stream(), pass.get(saved_)), expected_);
  }

 private:
  Saved saved_;
  std::vector<double> expected_;
};

TEST_F(TapeTest, SelectiveRecomputationDropsCheapOutputsAndMakesThemAgainOnce) {
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective}) {
    for (const auto when : {WeightGradients::kWithInputs, WeightGradients::kLater}) {
      log_.clear();
      Tape tape(stream_, parameters_, {true, policy, nullptr});
      const Variable x = tape.leaf(numbers({1, 2}));
      Variable cheap = tape.record(std::make_unique<Cheap>(tape.save(x), log_), Cheap::twice(stream_, x.value), {x});
      const std::weak_ptr<tensor::Storage> storage = cheap.value.storage();
      const std::vector<double> expected = {2, 4};
      const Variable first = tape.record(std::make_unique<Consumer>(tape.save(cheap), expected),
                                         stream_.convert(cheap.value, DType::kF32), {cheap});
      const Variable second = tape.record(std::make_unique<Consumer>(tape.save(cheap), expected),
                                          stream_.convert(cheap.value, DType::kF32), {cheap});
      const Variable sum = probe(tape, "sum", {first, second});
      cheap.value = Tensor();
      const bool drops = policy == RecomputePolicy::kSelective;
      EXPECT_EQ(storage.expired(), drops);
      tape.backward(sum, numbers({1, 1}), when);
      const auto recomputations = std::count(log_.begin(), log_.end(), "recompute");
      EXPECT_EQ(recomputations, drops ? 1 : 0) << "two operations share what is made again";
      tape.run_weight_gradients();
      EXPECT_EQ(read(tape.gradient_of(x)), (std::vector<double>{4, 4}));
    }
  }
}

TEST_F(TapeTest, HooksSurroundBlocksInBothDirections) {
  BlockHooks hooks;
  const auto hook = [this](const char* what) {
    return [this, what](std::string_view block) { log_.push_back(std::string(what) + " " + std::string(block)); };
  };
  hooks.before_forward = hook("before forward");
  hooks.after_forward = hook("after forward");
  hooks.before_backward = hook("before backward");
  hooks.after_backward = hook("after backward");
  const auto run = [&](Tape& tape) {
    const Variable x = tape.leaf(numbers({1}));
    const auto body = [this](Tape& inner, const Variable& input) {
      log_.push_back("forward");
      return probe(inner, "second", {probe(inner, "first", {input})});
    };
    const Variable y = tape.block("a", x, body);
    return tape.block("b", probe(tape, "between", {y}), body);
  };
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
    log_.clear();
    Tape tape(stream_, parameters_, {true, policy, &hooks});
    const Variable y = run(tape);
    EXPECT_THAT(log_, ElementsAre("before forward a", "forward", "after forward a", "before forward b", "forward",
                                  "after forward b"));
    log_.clear();
    tape.backward(y, numbers({1}));
    Log expected;
    const auto backward = [&](const std::string& block) {
      expected.push_back("before backward " + block);
      if (policy == RecomputePolicy::kBlock) {
        expected.push_back("forward");
      }
      for (const char* step : {"inputs second", "weights second", "inputs first", "weights first"}) {
        expected.push_back(step);
      }
      expected.push_back("after backward " + block);
    };
    backward("b");
    expected.insert(expected.end(), {"inputs between", "weights between"});
    backward("a");
    EXPECT_EQ(log_, expected) << name_of(policy);
  }
  log_.clear();
  Tape silent(stream_, parameters_, {false, RecomputePolicy::kNone, &hooks});
  run(silent);
  EXPECT_THAT(log_, ElementsAre("before forward a", "forward", "after forward a", "before forward b", "forward",
                                "after forward b"));
}

TEST_F(TapeTest, AHookSeesTheOutputOfEachBlock) {
  for (const bool recording : {true, false}) {
    for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
      std::vector<std::pair<std::string, std::vector<double>>> outputs;
      BlockHooks hooks;
      hooks.forward_output = [&](std::string_view block, const Tensor& output) {
        outputs.emplace_back(block, read(output));
      };
      Tape tape(stream_, parameters_, {recording, policy, &hooks});
      const Variable x = tape.leaf(numbers({1, -2}));
      const auto body = [this](Tape& inner, const Variable& input) {
        return probe(inner, "second", {probe(inner, "first", {input})});
      };
      const Variable y = tape.block("a", x, body);
      const Variable z = tape.block("b", probe(tape, "between", {y}), body);
      EXPECT_THAT(outputs,
                  ElementsAre(std::pair(std::string("a"), read(y.value)), std::pair(std::string("b"), read(z.value))));
    }
  }
}

TEST_F(TapeTest, BlockRecomputationKeepsTheInputOfABlockOnly) {
  const auto memory_of = [&](RecomputePolicy policy) {
    Tape tape(stream_, parameters_, {true, policy, nullptr});
    const Variable x = tape.leaf(stream_.zeros({1, 1024}, DType::kF32));
    const std::uint64_t before = machine_.allocator.statistics().current;
    const Variable y = tape.block("block", x, [&](Tape& inner, const Variable& input) {
      Variable last = input;
      for (int i = 0; i < 5; ++i) {
        Tensor output = stream_.convert(last.value, DType::kF32);
        last = inner.record(std::make_unique<Consumer>(inner.save(last), std::vector<double>(1024, 0.0)),
                            std::move(output), {last});
      }
      return last;
    });
    const std::uint64_t used = machine_.allocator.statistics().current - before;
    tape.backward(y, stream_.zeros({1, 1024}, DType::kF32));
    return used;
  };
  EXPECT_EQ(memory_of(RecomputePolicy::kNone), 5u * 4096);  // four inputs within the block, and its output
  EXPECT_EQ(memory_of(RecomputePolicy::kBlock), 4096u);     // its output
}

TEST_F(TapeTest, SeveralTapesLiveSideBySide) {
  Tape first(stream_, parameters_, {}), second(stream_, parameters_, {});
  const Variable x = first.leaf(numbers({1})), u = second.leaf(numbers({1}));
  const Variable y = probe(first, "first", {x}), v = probe(second, "second", {u});
  first.backward(y, numbers({2}));
  second.backward(v, numbers({3}));
  EXPECT_EQ(read(first.gradient_of(x)), std::vector<double>{2});
  EXPECT_EQ(read(second.gradient_of(u)), std::vector<double>{3});
}

TEST_F(TapeTest, AnOperationThatIsNotCheapCannotBeMadeAgain) {
  class Asker final : public Probe {
   public:
    using Probe::Probe;
    void backward_inputs(BackwardPass& pass) override { recompute(pass); }
  };
  Tape tape(stream_, parameters_, {});
  const Variable x = tape.leaf(numbers({1}));
  const Variable y = tape.record(std::make_unique<Asker>("asker", 1, log_), numbers({1}), {x});
  EXPECT_THROW(tape.backward(y, numbers({1})), base::InternalError);
}

}  // namespace
}  // namespace flyover::autograd
