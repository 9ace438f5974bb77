"""Where LLaVA's users look for its model class: `llava.model.language_model.llava_llama`."""
