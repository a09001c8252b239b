// The contracts of the shared attention and of the indexer on every instruction set: the bits of a row are its query's
// and its visible keys' alone, and those of a document's gradients are the document's.
#include <gtest/gtest.h>

#include "devices/shared_attention/requests.h"
#include "devices/support/run_case.h"

namespace flyover::tests {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;
using kernels::SharedVisibility;

class SharedContract : public testing::TestWithParam<std::tuple<InstructionSet, DType>> {
 protected:
  InstructionSet set() const { return std::get<0>(GetParam()); }
  SharedSizes sizes(std::int64_t heads, std::int64_t head_dim, const SharedVisibility& visibility, bool sink = true,
                    Lists lists = Lists::kNone) const {
    return {heads, head_dim, std::get<1>(GetParam()), visibility, sink, lists};
  }
  std::vector<SharedSizes> all_sizes() const {
    return {sizes(8, 64, {128, 4, 0}), sizes(3, 33, {20, 1, 0}, false), sizes(5, 16, {64, 4, 0}, true, Lists::kSome),
            sizes(13, 20, {1, 128, 0}), sizes(1, 80, {100, 0, 0})};
  }
};

TEST_P(SharedContract, DecodeGivesTheBitsOfPrefill) {
  for (const SharedSizes& one : all_sizes()) {
    const Rows prefill = attend(set(), one, {{1, 0, 400}})[0];
    for (std::int64_t position = 0; position < 400; position += position % 64 < 2 || position % 64 > 60 ? 1 : 7) {
      const Rows decoded = attend(set(), one, {{1, position, 1}}, position % 3)[0];
      ASSERT_EQ(decoded, part(prefill, 400, position, 1)) << to_string(one) << ", position " << position;
    }
  }
}

TEST_P(SharedContract, ARingGivesTheBitsOfAllTokens) {
  for (const SharedSizes& one : all_sizes()) {
    const Rows prefill = attend(set(), one, {{1, 0, 400}})[0];
    SharedSizes ring = one;
    for (const std::int64_t count : {1, 5, 30}) {
      ring.visibility.ring = (one.visibility.window + count - 1 + 63) / 64 * 64;
      for (std::int64_t first = 0; first + count <= 400; first += 13) {
        const Rows chunk = attend(set(), ring, {{1, first, count}})[0];
        ASSERT_EQ(chunk, part(prefill, 400, first, count)) << to_string(ring) << ", " << first << "+" << count;
      }
    }
  }
}

TEST_P(SharedContract, ChunksGiveTheBitsOfPrefill) {
  for (const SharedSizes& one : all_sizes()) {
    const Rows prefill = attend(set(), one, {{1, 0, 400}})[0];
    std::int64_t first = 0;
    for (const std::int64_t count : {1, 2, 5, 64, 63, 65, 13, 128, 17, 42}) {
      const Rows chunk = attend(set(), one, {{1, first, count}})[0];
      ASSERT_EQ(chunk, part(prefill, 400, first, count)) << to_string(one) << ", " << first << "+" << count;
      first += count;
    }
    ASSERT_EQ(first, 400);
  }
}

TEST_P(SharedContract, AListOfAllVisibleEntriesGivesTheBitsOfNoList) {
  for (const SharedSizes& one : {sizes(8, 64, {128, 4, 0}), sizes(3, 33, {20, 1, 0})}) {
    SharedSizes listed = one;
    listed.lists = Lists::kAll;
    EXPECT_EQ(attend(set(), listed, {{1, 0, 400}}), attend(set(), one, {{1, 0, 400}})) << to_string(one);
    EXPECT_EQ(differentiate(set(), listed, {400, 1100}), differentiate(set(), one, {400, 1100})) << to_string(one);
  }
}

// Some queries of a block choose fewer: the others, which then no longer share tiles, keep their bits.
TEST_P(SharedContract, AQueryThatChoosesAllHasTheSameBitsBesideOneThatDoesNot) {
  const SharedSizes some = sizes(4, 32, {16, 4, 0}, true, Lists::kSome), none = sizes(4, 32, {16, 4, 0});
  int full = 0;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const Rows chosen = attend(set(), some, {{seed, 0, 60}})[0], all = attend(set(), none, {{seed, 0, 60}})[0];
    for (std::int64_t position = 0; position < 60; ++position) {
      bool chooses_all = true;
      for (std::int64_t entry = 0; entry < (position + 1) / 4; ++entry) {
        chooses_all = chooses_all && some_list_has(seed, position, entry);
      }
      EXPECT_EQ(part(chosen, 60, position, 1) == part(all, 60, position, 1), chooses_all)
          << "seed " << seed << ", position " << position;
      full += chooses_all && position >= 7 ? 1 : 0;  // of two entries and more
    }
  }
  EXPECT_GE(full, 4);
}

TEST_P(SharedContract, NeighboursAndThreadsDoNotChangeBits) {
  for (const SharedSizes& one : all_sizes()) {
    const std::vector<Request> requests = {{1, 0, 130}, {2, 60, 1}, {3, 0, 1}, {4, 100, 30}, {5, 129, 1}, {6, 3, 90}};
    std::vector<Rows> alone;
    for (const Request& request : requests) {
      alone.push_back(attend(set(), one, {request})[0]);
    }
    const std::vector<Request> reversed(requests.rbegin(), requests.rend());
    for (const int threads : {1, 3}) {
      const std::vector<Rows> together = attend(set(), one, requests, 2, threads);
      const std::vector<Rows> otherwise = attend(set(), one, reversed, 0, threads);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        ASSERT_EQ(together[i], alone[i]) << to_string(one) << ", request " << i << ", threads " << threads;
        ASSERT_EQ(otherwise[requests.size() - 1 - i], alone[i]) << to_string(one) << ", request " << i;
      }
    }
  }
}

TEST_P(SharedContract, GradientsOfADocumentAreTheSameBitsInEveryPackAndForEveryThreadCount) {
  for (const SharedSizes& one : all_sizes()) {
    const std::vector<Gradients> alone = {differentiate(set(), one, {150})[0], differentiate(set(), one, {2100})[0]};
    const std::vector<Gradients> one_thread = differentiate(set(), one, {3, 2100, 150, 70});
    for (const int threads : {1, 2, 3}) {
      const std::vector<Gradients> pack = differentiate(set(), one, {3, 2100, 150, 70}, threads);
      for (std::size_t i : {1, 2}) {
        const Gradients& expected = alone[2 - i];
        EXPECT_EQ(pack[i].dq, expected.dq) << to_string(one);
        EXPECT_EQ(pack[i].dkeys, expected.dkeys) << to_string(one);
        EXPECT_EQ(pack[i].dentries, expected.dentries) << to_string(one);
      }
      EXPECT_EQ(pack, one_thread) << to_string(one) << ", threads " << threads;
    }
  }
}

/// The head size of the published models, for which the tiles are of other sizes.
TEST_P(SharedContract, HeadsOf512KeepTheContractToo) {
  for (const Lists lists : {Lists::kNone, Lists::kSome}) {
    const SharedSizes one = sizes(3, 512, {20, 4, 0}, true, lists);
    const Rows prefill = attend(set(), one, {{1, 0, 150}})[0];
    for (const std::int64_t position : {0, 3, 4, 19, 20, 63, 64, 65, 127, 149}) {
      ASSERT_EQ(attend(set(), one, {{1, position, 1}}, position % 3)[0], part(prefill, 150, position, 1)) << position;
    }
    SharedSizes ring = one;
    ring.visibility.ring = 64;
    ASSERT_EQ(attend(set(), ring, {{1, 100, 30}})[0], part(prefill, 150, 100, 30));
    const std::vector<Gradients> alone = {differentiate(set(), one, {150})[0], differentiate(set(), one, {70})[0]};
    const std::vector<Gradients> one_thread = differentiate(set(), one, {3, 70, 150});
    for (const int threads : {1, 3}) {
      const std::vector<Rows> together = attend(set(), one, {{2, 60, 1}, {1, 40, 70}, {3, 0, 5}}, 1, threads);
      ASSERT_EQ(together[1], part(prefill, 150, 40, 70)) << threads << " threads";
      const std::vector<Gradients> pack = differentiate(set(), one, {3, 70, 150}, threads);
      EXPECT_EQ(pack, one_thread) << threads << " threads";
      for (const std::size_t i : {1, 2}) {
        EXPECT_EQ(pack[i].dq, alone[2 - i].dq);
        EXPECT_EQ(pack[i].dkeys, alone[2 - i].dkeys);
        EXPECT_EQ(pack[i].dentries, alone[2 - i].dentries);
      }
    }
  }
}

TEST_P(SharedContract, SelectionOfAQueryIsTheSameBitsWhateverIsAroundIt) {
  for (const SharedSizes& one : {sizes(8, 64, {1, 4, 0}), sizes(3, 33, {1, 1, 0}), sizes(64, 16, {1, 2, 0})}) {
    for (const std::int64_t limit : {1, 20, 500}) {
      const Rows prefill = select(set(), one, {{1, 0, 400}}, limit)[0];
      for (std::int64_t position = 0; position < 400; position += 37) {
        const std::vector<Rows> rows = select(set(), one, {{2, 30, 70}, {1, position, 1}, {3, 0, 5}}, limit);
        ASSERT_EQ(rows[1], part(prefill, 400, position, 1)) << to_string(one) << ", position " << position;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, SharedContract,
                         testing::Combine(testing::ValuesIn(devices::cpu::available_instruction_sets()),
                                          testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& one) {
                           return std::string(name_of(std::get<0>(one.param))) + "_" +
                                  std::string(name_of(std::get<1>(one.param)));
                         });

}  // namespace
}  // namespace flyover::tests
