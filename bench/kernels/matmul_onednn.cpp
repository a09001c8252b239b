#include "matmul_onednn.h"

#ifdef FLYOVER_BENCH_ONEDNN
#include <memory>
#include <unordered_map>

#include <dnnl.hpp>
#include <omp.h>
#endif

namespace flyover::bench {

#ifdef FLYOVER_BENCH_ONEDNN
namespace {

dnnl::memory make_memory(const dnnl::engine& engine, const kernels::ConstView& view, bool swap) {
  const auto type = view.dtype == kernels::DType::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  const int first = swap ? 1 : 0;
  const dnnl::memory::desc description({view.size(first), view.size(1 - first)}, type,
                                       dnnl::memory::dims{view.stride(first), view.stride(1 - first)});
  return {description, engine, const_cast<void*>(view.data)};
}

}  // namespace

std::function<void()> onednn_product(const kernels::MatMul& product, int threads) {
  omp_set_num_threads(threads);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const dnnl::stream stream(engine);
  const std::unordered_map<int, dnnl::memory> arguments = {{DNNL_ARG_SRC, make_memory(engine, product.a, false)},
                                                           {DNNL_ARG_WEIGHTS, make_memory(engine, product.b, true)},
                                                           {DNNL_ARG_DST, make_memory(engine, product.c, false)}};
  dnnl::primitive_attr attributes;
  if (product.accumulate) {
    dnnl::post_ops after;
    after.append_sum(1.0f);
    attributes.set_post_ops(after);
  }
  const dnnl::matmul::desc description(arguments.at(DNNL_ARG_SRC).get_desc(), arguments.at(DNNL_ARG_WEIGHTS).get_desc(),
                                       arguments.at(DNNL_ARG_DST).get_desc());
  const dnnl::matmul primitive(dnnl::matmul::primitive_desc(description, attributes, engine));
  return [=] {
    primitive.execute(stream, arguments);
    dnnl::stream(stream).wait();
  };
}
#else
std::function<void()> onednn_product(const kernels::MatMul&, int) {
  return {};
}
#endif

}  // namespace flyover::bench
