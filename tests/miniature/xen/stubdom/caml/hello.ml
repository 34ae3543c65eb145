let () = print_endline "The miniature speaks: caml"
