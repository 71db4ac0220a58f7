// From a PTX type to a C++ type, as a template argument of a lambda.
#pragma once

#include <cstdint>

#include "decoder.h"

namespace flowmap::simt {

/** Integers of 2, 4 or 8 bytes. Calls nothing for other widths. */
template <class Function>
void withWidth(uint32_t bytes, bool isSigned, Function&& function) {
  switch (bytes) {
    case 2:
      isSigned ? function.template operator()<int16_t>() : function.template operator()<uint16_t>();
      break;
    case 4:
      isSigned ? function.template operator()<int32_t>() : function.template operator()<uint32_t>();
      break;
    case 8:
      isSigned ? function.template operator()<int64_t>() : function.template operator()<uint64_t>();
      break;
    default:
      break;
  }
}

/** Integer types of 16 bits and more; b types count as unsigned. Calls nothing for others. */
template <class Function>
void withInteger(Type type, Function&& function) {
  switch (type) {
    case Type::b16:
    case Type::b32:
    case Type::b64:
    case Type::u16:
    case Type::u32:
    case Type::u64:
    case Type::s16:
    case Type::s32:
    case Type::s64:
      return withWidth(sizeOf(type), isSigned(type), function);
    default:
      return;
  }
}

}  // namespace flowmap::simt
