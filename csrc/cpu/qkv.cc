// Splitting a fused QKV projection into heads: the parts one after another, normalised or copied.
#include "core/strided.h"
#include "cpu/backend.h"

namespace flowmap::cpu {
namespace {

// One part of the projection, and a tensor of its own, as [tokens, heads · dim].
Shape sizesOf(const QkvLayout& layout) { return {layout.tokens, layout.heads * layout.dim}; }
StridedView inside(const QkvLayout& layout, int part) {
  StridedView view;
  view.offset = part * layout.heads * layout.dim;
  view.strides[0] = 3 * layout.heads * layout.dim;
  view.strides[1] = 1;
  return view;
}
StridedView alone(const QkvLayout& layout) {
  StridedView view;
  view.strides[0] = layout.heads * layout.dim;
  view.strides[1] = 1;
  return view;
}

}  // namespace

void CpuBackend::splitQkv(const QkvLayout& layout, const std::array<Tensor, 6>& out, const QkvOperands& in) {
  const auto take = [&](const Tensor& target, const Tensor& source, int part) {
    if (target && source) copyStrided(target, alone(layout), source, inside(layout, part), sizesOf(layout));
  };
  for (int part = 0; part < 3; ++part) {
    if (layout.normalizes(part)) {
      norm(layout.rows(part), out[part], out[part + 3], {in.qkv, in.weights[part], {}, in.tqkv, in.tweights[part], {}});
    } else {
      take(out[part], in.qkv, part);
      take(out[part + 3], in.tqkv, part);
    }
  }
}

void CpuBackend::splitQkvVjp(const QkvLayout& layout, const QkvGradients& out, const QkvOperands& in,
                             const std::array<Tensor, 6>& cotangents) {
  const auto put = [&](const Tensor& target, const Tensor& g, int part) {
    if (target && g) copyStrided(target, inside(layout, part), g, alone(layout), sizesOf(layout));
  };
  // What no cotangent reaches is zero.
  if (out.gqkv && !(cotangents[0] && cotangents[1] && cotangents[2])) fill(out.gqkv, 0);
  if (out.gtqkv && !(cotangents[3] && cotangents[4] && cotangents[5])) fill(out.gtqkv, 0);
  for (int part = 0; part < 3; ++part) {
    const Tensor &g = cotangents[part], &h = cotangents[part + 3];
    if (layout.normalizes(part)) {
      normVjp(layout.rows(part), {out.gqkv, out.gweights[part], {}, out.gtqkv, out.gtweights[part], {}},
              {in.qkv, in.weights[part], {}, in.tqkv, in.tweights[part], {}}, g, h);
    } else {
      put(out.gqkv, g, part);
      put(out.gtqkv, h, part);
    }
  }
}

}  // namespace flowmap::cpu
