// From a PTX type to a C++ type, as a template argument of a lambda.
#pragma once

#include <cstdint>

#include "decoder.h"

namespace flowmap::simt {

/** Integer types of 16 bits and more; b types count as unsigned. Calls nothing for others. */
template <class Function>
void withInteger(Type type, Function&& function) {
  switch (type) {
    case Type::b16:
    case Type::u16:
      function.template operator()<uint16_t>();
      break;
    case Type::b32:
    case Type::u32:
      function.template operator()<uint32_t>();
      break;
    case Type::b64:
    case Type::u64:
      function.template operator()<uint64_t>();
      break;
    case Type::s16:
      function.template operator()<int16_t>();
      break;
    case Type::s32:
      function.template operator()<int32_t>();
      break;
    case Type::s64:
      function.template operator()<int64_t>();
      break;
    default:
      break;
  }
}

}  // namespace flowmap::simt
