"""Foundation models behind `VideoBackbone`: one module per family, none of them imported before it is asked for."""
