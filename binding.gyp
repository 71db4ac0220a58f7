{
  # For tools that only know node-gyp: the build itself is CMakeLists.txt, driven by cmake-js.
  'targets': [{
    'target_name': 'flowmap',
    'type': 'none',
    'actions': [{
      'action_name': 'cmake',
      'inputs': ['CMakeLists.txt'],
      'outputs': ['<(PRODUCT_DIR)/never-made'],
      'action': ['npm', 'run', 'build']
    }]
  }]
}
