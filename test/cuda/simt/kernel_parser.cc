// A kernel's text to instructions.
#include "kernel_parser.h"

#include <algorithm>
#include <cctype>

#include "memory.h"
#include "report.h"

namespace flowmap::simt {

namespace {

// What registers hold before they are written: predicates false, all others NaN.
constexpr uint64_t kPoisonValue = ~0ull;

std::string spelled(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool space = std::isspace(static_cast<unsigned char>(c));
    if (!space) {
      result += c;
    } else if (!result.empty() && result.back() != ' ') {
      result += ' ';
    }
  }
  return result;
}

std::vector<std::string> split(const std::string& word) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= word.size();) {
    const size_t end = std::min(word.find('.', begin), word.size());
    parts.push_back(word.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

}  // namespace

KernelParser::KernelParser(Lexer& lexer, Module& module, const ModuleScope& scope, Kernel& kernel)
    : lexer_(lexer), module_(module), moduleScope_(scope), kernel_(kernel), decoder_(kernel) {
  kernel_.image = {1, 0, 0};  // kTrueSlot, kSinkSlot, kCarrySlot
}

const char* KernelParser::keep(std::string text) {
  const auto found = strings_.find(text);
  if (found != strings_.end()) return found->second;
  return strings_[text] = module_.strings.emplace_back(text).c_str();
}

Slot KernelParser::freshSlot(uint64_t value) {
  kernel_.image.push_back(value);
  return Slot(kernel_.image.size() - 1);
}

void KernelParser::parse() {
  openScope();
  parseParameters();
  parseDirectives();
  lexer_.need("{");
  parseBlock();
  Statement end;
  end.opcode = end.text = "ret";
  end.line = lexer_.line();
  emit(end, kTrueSlot, 0);
  closeScope();
  finish();
}

void KernelParser::parseParameters() {
  if (!lexer_.eat("(")) return;
  while (!lexer_.eat(")")) {
    lexer_.need(".param");
    Declaration d;
    // `.param .u64 .ptr .global .align 16 name`: the alignment after .ptr is that of what is pointed to.
    uint32_t alignment = 0;
    bool pointer = false;
    for (;;) {
      const std::string word = lexer_.word();
      if (word == ".align") {
        const uint32_t value = uint32_t(lexer_.number());
        if (!pointer) alignment = value;
      } else if (word == ".ptr") {
        pointer = true;
      } else if (word[0] == '.') {
        if (!pointer) d.type = typeOf(word.substr(1));
      } else {
        d.name = word;
        break;
      }
    }
    d.bytes = sizeOf(d.type);
    if (lexer_.eat("[")) {
      d.bytes *= lexer_.number();
      lexer_.need("]");
    }
    alignment = std::max(alignment, sizeOf(d.type));
    kernel_.parameterBytes = (kernel_.parameterBytes + alignment - 1) / alignment * alignment;
    kernel_.parameters.push_back({d.name, kernel_.parameterBytes, uint32_t(d.bytes)});
    scopes_.back().variables[d.name] = {Space::parameter, kernel_.parameterBytes, freshSlot(kernel_.parameterBytes)};
    kernel_.parameterBytes += uint32_t(d.bytes);
    lexer_.eat(",");
  }
}

void KernelParser::parseDirectives() {
  while (lexer_.peek() != '{') {
    const std::string word = lexer_.word();
    std::vector<uint64_t> values;
    while (lexer_.atNumber()) {
      values.push_back(lexer_.number());
      lexer_.eat(",");
    }
    if (word == ".maxntid") {
      kernel_.maxThreads = 1;
      for (const uint64_t value : values) kernel_.maxThreads *= uint32_t(value);
    } else if (word == ".reqnctapercluster") {
      for (size_t axis = 0; axis < 3; ++axis)
        kernel_.clusterSize[axis] = axis < values.size() ? uint32_t(values[axis]) : 1;
    } else if (word == ".maxclusterrank") {
      if (values.size() != 1) lexer_.fail(".maxclusterrank takes one number");
      kernel_.maxClusterBlocks = uint32_t(values[0]);
    } else if (word == ".reqntid") {
      lexer_.fail("unknown directive .reqntid");
    } else if (word != ".minnctapersm" && word != ".maxnreg" && word != ".noreturn" && word != ".pragma" &&
               word != ".explicitcluster") {
      lexer_.fail("unknown directive " + word);
    }
  }
}

void KernelParser::parseBlock() {
  openScope();
  while (!lexer_.eat("}")) {
    if (lexer_.eat("{")) {
      parseBlock();
      continue;
    }
    const char next = lexer_.peek();
    if (next == '\0') lexer_.fail("kernel without end");
    if (next == '.') {
      // `.reg.b32` is `.reg .b32`.
      std::string name = lexer_.word();
      if (const size_t dot = name.find('.', 1); dot != std::string::npos) {
        lexer_.moveTo({lexer_.place().at - (name.size() - dot), lexer_.line()});
        name.resize(dot);
      }
      parseDirective(name);
      continue;
    }
    if (next != '@') {
      const Lexer::Place place = lexer_.place();
      const std::string word = lexer_.word();
      if (lexer_.eat(":")) {
        if (lexer_.eat(".branchtargets")) {
          do scopes_.back().tables[word].push_back(lexer_.word());
          while (lexer_.eat(","));
          lexer_.need(";");
        } else {
          scopes_.back().labels[word] = kernel_.code.size();
        }
        continue;
      }
      lexer_.moveTo(place);
    }
    parseInstruction();
  }
  closeScope();
}

void KernelParser::parseDirective(const std::string& name) {
  if (name == ".reg") {
    parseRegisters();
  } else if (name == ".local" || name == ".param") {
    parseVariable(Space::local);  // parameters of calls live in the thread's own memory
  } else if (name == ".shared") {
    parseVariable(Space::shared);
  } else if (name == ".loc") {
    parseLocation();
  } else if (name == ".pragma") {
    lexer_.skipPast(';');
  } else {
    lexer_.fail("unknown directive " + name);
  }
}

void KernelParser::parseRegisters() {
  const std::string type = lexer_.word();
  const uint64_t first = type == ".pred" ? 0 : kPoisonValue;
  if (typeOf(type.substr(1)) == Type::none) lexer_.fail("unknown register type " + type);
  do {
    const std::string name = lexer_.word();
    if (lexer_.eat("<")) {
      lexer_.number();
      lexer_.need(">");
      scopes_.back().ranges[name] = first;
    } else {
      scopes_.back().registers[name] = freshSlot(first);
    }
  } while (lexer_.eat(","));
  lexer_.need(";");
}

uint32_t KernelParser::place(Space space, uint64_t bytes, uint32_t alignment) {
  uint32_t& top = space == Space::shared ? kernel_.sharedBytes : kernel_.localBytes;
  const uint32_t at = (top + alignment - 1) / alignment * alignment;
  top = at + uint32_t(bytes);
  return at;
}

void KernelParser::parseVariable(Space space) {
  const Declaration d = parseDeclaration(lexer_);
  lexer_.need(";");
  const uint64_t base = space == Space::shared ? kSharedBase : kLocalBase;
  const uint64_t address = base + place(space, d.bytes, d.alignment);
  scopes_.back().variables[d.name] = {space, address, freshSlot(address)};
}

void KernelParser::parseLocation() {
  struct Position {
    std::string text, key;
  };
  const auto position = [&] {
    const int file = int(lexer_.number());
    const auto line = static_cast<unsigned long long>(lexer_.number());
    const auto column = static_cast<unsigned long long>(lexer_.number());
    const auto name = moduleScope_.files.find(file);
    const char* path = name == moduleScope_.files.end() ? "?" : name->second.c_str();
    return Position{format("%s:%llu", path, line), format("%d:%llu:%llu", file, line, column)};
  };
  const Position here = position();
  std::string text = here.text;
  if (lexer_.eat(", function_name") || lexer_.eat(",function_name")) {
    lexer_.word();
    if (lexer_.eat("+")) lexer_.number();
    lexer_.need(",");
    lexer_.need("inlined_at");
    const Position caller = position();
    // A caller that is itself inlined has had a .loc of its own: so the text begins where the kernel stands.
    const auto outer = locations_.find(caller.key);
    text = (outer == locations_.end() ? caller.text : outer->second) + " in " + text;
  }
  locations_[here.key] = text;
  where_ = keep(text);
}

std::optional<Slot> KernelParser::findRegister(const std::string& name) {
  size_t digits = name.size();
  while (digits > 0 && std::isdigit(static_cast<unsigned char>(name[digits - 1]))) --digits;
  const std::string range = name.substr(0, digits);
  for (size_t i = scopes_.size(); i-- > 0;) {
    Scope& scope = scopes_[i];
    if (const auto found = scope.registers.find(name); found != scope.registers.end()) return found->second;
    if (digits == name.size()) continue;
    if (const auto found = scope.ranges.find(range); found != scope.ranges.end()) {
      return scope.registers[name] = freshSlot(found->second);
    }
  }
  return std::nullopt;
}

Variable* KernelParser::findVariable(const std::string& name) {
  for (size_t i = scopes_.size(); i-- > 0;) {
    if (const auto found = scopes_[i].variables.find(name); found != scopes_[i].variables.end()) return &found->second;
  }
  const auto outer = moduleScope_.variables.find(name);
  if (outer == moduleScope_.variables.end()) return nullptr;
  Variable variable = outer->second;
  if (variable.dynamic) {
    dynamicAlignment_ = std::max(dynamicAlignment_, moduleScope_.sharedAlignments.at(name));
    variable.slot = freshSlot();
    dynamicShared_.push_back(variable.slot);
  } else {
    if (variable.space == Space::shared) {
      variable.address =
          kSharedBase + place(Space::shared, moduleScope_.sharedSizes.at(name), moduleScope_.sharedAlignments.at(name));
    }
    variable.slot = freshSlot(variable.address);
  }
  return &(scopes_.front().variables[name] = variable);
}

Slot KernelParser::specialSlot(const std::string& name, Special special) {
  const auto found = specials_.find(name);
  if (found != specials_.end()) return found->second;
  const Slot slot = freshSlot();
  kernel_.specials.push_back({slot, special});
  return specials_[name] = slot;
}

Operand KernelParser::named(const std::string& name) {
  Operand operand;
  operand.name = name;
  if (name == "_") {
    operand.kind = Operand::Kind::sink;
    if (lexer_.eat("|")) {
      operand.hasPredicate = true;
      operand.predicate = named(lexer_.word()).slot;
    }
  } else if (const auto special = specialRegister(name)) {
    operand.slot = specialSlot(name, *special);
  } else if (name == "WARP_SZ") {
    operand.slot = decoder_.constant(32);
    operand.constant = true;
    operand.value = 32;
  } else if (const auto slot = findRegister(name)) {
    operand.slot = *slot;
    if (lexer_.eat("|")) {
      operand.hasPredicate = true;
      operand.predicate = named(lexer_.word()).slot;
    }
  } else if (Variable* variable = findVariable(name)) {
    operand.slot = variable->slot;
    operand.space = variable->space;
  } else if (isClock(name)) {
    operand.slot = kSinkSlot;  // its instruction looks at the name
  } else {
    operand.kind = Operand::Kind::label;
  }
  return operand;
}

Operand KernelParser::parseAddress() {
  Operand operand;
  if (lexer_.atNumber()) {
    operand.slot = decoder_.constant(lexer_.number());
  } else {
    operand = named(lexer_.word());
    if (operand.kind != Operand::Kind::slot) lexer_.fail("unknown address " + operand.name);
  }
  operand.kind = Operand::Kind::address;
  operand.constant = false;
  if (lexer_.eat("+")) {
    operand.offset = int64_t(lexer_.number());
  } else if (lexer_.peek() == '-') {
    operand.offset = int64_t(lexer_.number());
  }
  while (lexer_.eat(",")) operand.elements.push_back(parseOperand());
  lexer_.need("]");
  return operand;
}

Operand KernelParser::parseOperand() {
  Operand operand;
  if (lexer_.eat("[")) return parseAddress();
  if (lexer_.eat("{")) {
    operand.kind = Operand::Kind::vector;
    do operand.elements.push_back(parseOperand());
    while (lexer_.eat(","));
    lexer_.need("}");
    return operand;
  }
  if (lexer_.eat("!")) {
    operand = parseOperand();
    operand.negated = true;
    return operand;
  }
  if (lexer_.atNumber()) {
    operand.constant = true;
    operand.value = lexer_.number();
    operand.slot = decoder_.constant(operand.value);
    return operand;
  }
  return named(lexer_.word());
}

void KernelParser::parseInstruction() {
  Slot guard = kTrueSlot;
  uint32_t skipIf = 0;
  if (lexer_.eat("@")) {
    skipIf = lexer_.eat("!");
    const std::string name = lexer_.word();
    const auto slot = findRegister(name);
    if (!slot) lexer_.fail("unknown predicate " + name);
    guard = *slot;
  }
  lexer_.skipSpace();
  const Lexer::Place begin = lexer_.place();
  Statement statement;
  statement.line = lexer_.line();
  statement.modifiers = split(lexer_.word());
  statement.opcode = statement.modifiers.front();
  statement.modifiers.erase(statement.modifiers.begin());
  if (statement.opcode == "call") {
    parseCall(statement, guard, skipIf);
    return;
  }
  if (lexer_.peek() != ';') {
    do statement.operands.push_back(parseOperand());
    while (lexer_.eat(","));
  }
  statement.text = spelled(lexer_.between(begin));
  lexer_.need(";");
  if (statement.opcode == "ret" && !returnLabels_.empty()) {
    emitBranch(returnLabels_.back(), guard, skipIf);
  } else {
    emit(statement, guard, skipIf);
  }
}

Instruction& KernelParser::emit(Statement& statement, Slot guard, uint32_t skipIf) {
  Instruction instruction;
  instruction.guard = guard;
  instruction.skipIf = skipIf;
  instruction.line = statement.line;
  instruction.where = where_;
  instruction.text = keep(statement.text);
  const auto family = decodeTable().find(statement.opcode);
  if (family == decodeTable().end()) statement.unknown();
  family->second(statement, decoder_, instruction);
  if (!statement.modifiers.empty() || !instruction.run) statement.unknown();
  for (const Operand& operand : statement.operands) {
    if (operand.kind == Operand::Kind::label) {
      scopes_.back().uses.push_back({kernel_.code.size(), operand.name, statement.line});
    }
  }
  kernel_.code.push_back(instruction);
  return kernel_.code.back();
}

void KernelParser::emitBranch(const std::string& label, Slot guard, uint32_t skipIf) {
  Statement branch;
  branch.opcode = branch.text = "bra";
  branch.line = lexer_.line();
  Operand target;
  target.kind = Operand::Kind::label;
  target.name = label;
  branch.operands.push_back(target);
  emit(branch, guard, skipIf);
}

void KernelParser::resolve(const LabelUse& use, size_t target) { branches_.push_back({use.instruction, target}); }

// Labels are known in their scope and in the scopes within it; what this scope does not know is its parent's matter.
void KernelParser::closeScope() {
  Scope scope = std::move(scopes_.back());
  scopes_.pop_back();
  for (const LabelUse& use : scope.uses) {
    if (const auto label = scope.labels.find(use.label); label != scope.labels.end()) {
      resolve(use, label->second);
    } else if (const auto table = scope.tables.find(use.label); table != scope.tables.end()) {
      std::vector<Slot> targets;
      for (const std::string& name : table->second) {
        const auto target = scope.labels.find(name);
        if (target == scope.labels.end()) lexer_.fail("unknown label " + name);
        targets.push_back(Slot(target->second));
      }
      kernel_.code[use.instruction].list = decoder_.list(targets);
      kernel_.code[use.instruction].count = uint32_t(targets.size());
    } else if (!scopes_.empty()) {
      scopes_.back().uses.push_back(use);
    } else {
      throw UnknownPtx(format("PTX line %u: unknown name %s", use.line, use.label.c_str()));
    }
  }
}

void KernelParser::finish() {
  for (const auto& [from, to] : branches_) kernel_.code[from].target = &kernel_.code[to];
  if (dynamicShared_.empty()) return;
  kernel_.sharedBytes = (kernel_.sharedBytes + dynamicAlignment_ - 1) / dynamicAlignment_ * dynamicAlignment_;
  for (const Slot slot : dynamicShared_) kernel_.image[slot] = kSharedBase + kernel_.sharedBytes;
}

}  // namespace flowmap::simt
