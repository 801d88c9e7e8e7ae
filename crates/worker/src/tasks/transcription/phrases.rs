//! What speech models write where nobody speaks: the ends of videos and the credits of subtitles they learnt from.

use std::sync::LazyLock;

use unicode_segmentation::UnicodeSegmentation as _;

/// Credits: nobody says these, so they are wrong wherever they stand alone.
const CREDITS: &[&str] = &[
    "Subtitles by the Amara.org community",
    "Subtitles made by the community of Amara.org",
    "Untertitel der Amara.org-Community",
    "Untertitelung des ZDF, 2020",
    "Untertitelung des ZDF für funk, 2017",
    "Untertitelung aufgrund der Audioqualität nicht möglich",
    "Untertitel im Auftrag des ZDF für funk, 2017",
    "Sous-titres réalisés par la communauté d'Amara.org",
    "Sous-titres réalisés para la communauté d'Amara.org",
    "Sous-titrage Société Radio-Canada",
    "Sous-titrage ST' 501",
    "Subtítulos realizados por la comunidad de Amara.org",
    "Subtítulos por la comunidad de Amara.org",
    "Legendas pela comunidade Amara.org",
    "Sottotitoli creati dalla comunità Amara.org",
    "Sottotitoli e revisione a cura di QTSS",
    "Ondertitels ingediend door de Amara.org gemeenschap",
    "Ondertiteld door de Amara.org gemeenschap",
    "Napisy stworzone przez społeczność Amara.org",
    "Undertexter från Amara.org-gemenskapen",
    "Undertexter av Nicolai Winther",
    "Tekstet av Nicolai Winther",
    "Danske tekster af Nicolai Winther",
    "Titulky vytvořil JohnyX",
    "Субтитры сделал DimaTorzok",
    "Субтитры создавал DimaTorzok",
    "Субтитры добавил DimaTorzok",
    "Редактор субтитров А.Семкин Корректор А.Егорова",
    "Редактор субтитров А.Синецкая Корректор А.Егорова",
    "Υπότιτλοι AUTHORWAVE",
    "Altyazı M.K.",
    "ترجمة نانسي قنقر",
    "字幕由Amara.org社区提供",
    "字幕by索兰娅",
    "小編字幕由Amara.org社區提供",
    "MBC 뉴스 이덕영입니다",
];

/// Ends of videos, and scraps: people say these, so they are wrong only where there is no speech.
const ENDINGS: &[&str] = &[
    "Thank you",
    "Thank you very much",
    "Thank you so much",
    "Thank you for watching",
    "Thank you for listening",
    "Thanks for watching",
    "Thanks for listening",
    "Thanks for watching and see you in the next video",
    "See you in the next video",
    "See you next time",
    "Please subscribe",
    "Please subscribe to my channel",
    "Please like and subscribe",
    "Don't forget to subscribe",
    "Bye",
    "Bye bye",
    "You",
    "I",
    "Oh",
    "So",
    "Okay",
    "The end",
    "The",
    "Vielen Dank",
    "Vielen Dank für's Zuschauen",
    "Vielen Dank fürs Zuschauen",
    "Danke fürs Zuschauen",
    "Bis zum nächsten Mal",
    "Tschüss",
    "Merci",
    "Merci d'avoir regardé cette vidéo",
    "Merci d'avoir regardé",
    "À bientôt",
    "Gracias",
    "Gracias por ver el video",
    "Gracias por ver",
    "¡Suscríbete al canal!",
    "Obrigado",
    "Obrigado por assistir",
    "E aí",
    "Grazie",
    "Grazie a tutti",
    "Grazie per la visione",
    "Dank je wel",
    "Bedankt voor het kijken",
    "Dziękuję",
    "Dziękuję za uwagę",
    "Dziękuję za oglądanie",
    "Tack till er alla",
    "Tack för att ni tittade",
    "Tak fordi I så med",
    "Takk for at du så på",
    "Kiitos",
    "Kiitos kun katsoit",
    "Děkuji za pozornost",
    "Köszönöm, hogy megnézted",
    "Vă mulțumim pentru vizionare",
    "Спасибо за просмотр",
    "Спасибо",
    "Продолжение следует",
    "Дякую за перегляд",
    "Дякую",
    "Ευχαριστώ",
    "Teşekkürler",
    "İzlediğiniz için teşekkür ederim",
    "İzlediğiniz için teşekkürler",
    "شكرا",
    "شكرا للمشاهدة",
    "اشتركوا في القناة",
    "תודה רבה",
    "تشکر از تماشای شما",
    "धन्यवाद",
    "देखने के लिए धन्यवाद",
    "ধন্যবাদ",
    "ขอบคุณที่รับชม",
    "ขอบคุณค่ะ",
    "Cảm ơn các bạn đã theo dõi",
    "Hẹn gặp lại các bạn trong những video tiếp theo nhé",
    "Hãy đăng ký kênh",
    "Terima kasih telah menonton",
    "Terima kasih",
    "Salamat sa panonood",
    "ご視聴ありがとうございました",
    "ご清聴ありがとうございました",
    "ありがとうございました",
    "チャンネル登録をお願いいたします",
    "谢谢大家",
    "谢谢观看",
    "感谢观看",
    "謝謝觀看",
    "多謝您收睇時局新聞,再會!",
    "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
    "시청해주셔서 감사합니다",
    "구독과 좋아요 부탁드립니다",
    "감사합니다",
    "다음 영상에서 만나요",
];

static CREDITS_AS_WORDS: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| as_words(CREDITS));
static ENDINGS_AS_WORDS: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| as_words(ENDINGS));

fn as_words(phrases: &[&str]) -> Vec<Vec<String>> {
    phrases.iter().map(|phrase| phrase.unicode_words().map(str::to_lowercase).collect()).collect()
}

/// Whether a text consists of such phrases alone, one after another; in silence also of those that people say.
pub(super) fn are_all_known(words: &[String], silent: bool) -> bool {
    let endings = silent.then_some(&*ENDINGS_AS_WORDS).into_iter().flatten();
    let known: Vec<&Vec<String>> = CREDITS_AS_WORDS.iter().chain(endings).collect();
    // How far known phrases can reach, from each place that they reach.
    let mut reached = vec![false; words.len() + 1];
    reached[0] = true;
    for start in 0..words.len() {
        if reached[start] {
            for phrase in &known {
                if words[start..].starts_with(phrase) {
                    reached[start + phrase.len()] = true;
                }
            }
        }
    }
    reached[words.len()]
}
